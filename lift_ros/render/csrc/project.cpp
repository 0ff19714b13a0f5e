#include "project.h"

#include <algorithm>
#include <cmath>

#include "linalg.h"

namespace lift {
namespace {

constexpr float kNear = 0.01f;
constexpr float kFar = 1e10f;
constexpr float kBlur = 0.3f;  // added to the 2D covariance so that no splat falls between pixels
constexpr float kMaxExtent = 3.34f;  // standard deviations at which a Gaussian of opacity 1 falls to alpha 1/255

Vec3 load(const float v[3]) { return {v[0], v[1], v[2]}; }

void store(Vec3 v, float out[3]) {
  out[0] = v.x;
  out[1] = v.y;
  out[2] = v.z;
}

Mat3 view_rotation(const float* m) { return {{{m[0], m[4], m[8]}, {m[1], m[5], m[9]}, {m[2], m[6], m[10]}}}; }

}  // namespace

// p = W mean + t; the covariance is A A^T with A = J W R S, J the Jacobian of the projection near p.
struct Projector::Linearisation {
  Vec3 p;
  float inverse_z;
  float u, v;          // p.x / z and p.y / z, clamped
  Vec3 jx, jy;         // rows of J
  Mat3 W;              // rotation of the camera
  Mat3 M;              // R S
  Vec3 ax, ay;         // rows of A
  float xx, xy, yy;    // 2D covariance
};

Projector::Projector(const LiftCamera& camera) : camera_(camera) {
  const float margin_u = 0.15f * camera.width / camera.fx, margin_v = 0.15f * camera.height / camera.fy;
  min_u_ = -camera.cx / camera.fx - margin_u;
  max_u_ = (camera.width - camera.cx) / camera.fx + margin_u;
  min_v_ = -camera.cy / camera.fy - margin_v;
  max_v_ = (camera.height - camera.cy) / camera.fy + margin_v;
  // The rows of J have squared norms (f / z)^2 (1 + u^2).
  const float u = std::max(-min_u_, max_u_), v = std::max(-min_v_, max_v_);
  max_stretch_ = std::max(camera.fx * camera.fx * (1.0f + u * u), camera.fy * camera.fy * (1.0f + v * v));
}

inline Projector::Linearisation Projector::linearise(const float mean[3], const float quat[4],
                                                     const float scale[3]) const {
  Linearisation l;
  const float* m = camera_.viewmat;
  l.W = view_rotation(m);
  l.p = l.W * load(mean) + Vec3{m[3], m[7], m[11]};
  l.inverse_z = 1.0f / l.p.z;
  l.u = std::min(max_u_, std::max(min_u_, l.p.x * l.inverse_z));
  l.v = std::min(max_v_, std::max(min_v_, l.p.y * l.inverse_z));
  const float jx = camera_.fx * l.inverse_z, jy = camera_.fy * l.inverse_z;
  l.jx = {jx, 0, -jx * l.u};
  l.jy = {0, jy, -jy * l.v};

  const float n = inverse_norm(quat);
  l.M = rotation({quat[0] * n, quat[1] * n, quat[2] * n, quat[3] * n});
  for (int k = 0; k < 3; ++k) l.M.col[k] = scale[k] * l.M.col[k];
  // Rows of J W, then of J W R S.
  l.ax = l.M.transpose_times(l.W.transpose_times(l.jx));
  l.ay = l.M.transpose_times(l.W.transpose_times(l.jy));
  l.xx = dot(l.ax, l.ax) + kBlur;
  l.xy = dot(l.ax, l.ay);
  l.yy = dot(l.ay, l.ay) + kBlur;
  return l;
}

bool Projector::project(const float mean[3], const float quat[4], const float scale[3], float opacity, Splat& splat,
                        float& radius) const {
  const float* m = camera_.viewmat;
  const float z = m[8] * mean[0] + m[9] * mean[1] + m[10] * mean[2] + m[11];
  // Written so that NaN fails every test.
  if (!(z > kNear && z < kFar && opacity >= kMinAlpha && std::isfinite(opacity))) return false;

  // Many Gaussians in front of the camera lie outside the image: a bound on the reach settles most of them cheaply.
  const float u = (m[0] * mean[0] + m[1] * mean[1] + m[2] * mean[2] + m[3]) / z;
  const float v = (m[4] * mean[0] + m[5] * mean[1] + m[6] * mean[2] + m[7]) / z;
  const float x = camera_.fx * u + camera_.cx, y = camera_.fy * v + camera_.cy;
  const float widest = std::max({std::abs(scale[0]), std::abs(scale[1]), std::abs(scale[2])});
  const float bound = kMaxExtent * std::sqrt(widest * widest * max_stretch_ / (z * z) + kBlur);
  if (x + bound < 0.5f || x - bound > camera_.width - 0.5f || y + bound < 0.5f || y - bound > camera_.height - 0.5f)
    return false;

  const Linearisation l = linearise(mean, quat, scale);
  const float determinant = l.xx * l.yy - l.xy * l.xy;
  if (!(determinant > 0.0f && std::isfinite(determinant))) return false;
  // opacity e^-sigma >= 1/255 within `extent` standard deviations; a little more, for rounding.
  const float log2_opacity = std::log2(opacity);
  const float extent = std::sqrt(2.0f / kLog2e * std::max(0.0f, log2_opacity - kLog2MinAlpha)) + 1e-3f;
  const float reach_x = extent * std::sqrt(l.xx), reach_y = extent * std::sqrt(l.yy);
  // Pixel i is reached if its centre i + 0.5 lies within the reach.
  const float left = std::max(0.0f, std::ceil(x - reach_x - 0.5f));
  const float right = std::min(camera_.width - 1.0f, std::floor(x + reach_x - 0.5f));
  const float top = std::max(0.0f, std::ceil(y - reach_y - 0.5f));
  const float bottom = std::min(camera_.height - 1.0f, std::floor(y + reach_y - 0.5f));
  if (!(left <= right && top <= bottom)) return false;

  splat.x = x;
  splat.y = y;
  splat.a = l.yy / determinant;
  splat.d = 1.0f / l.yy;
  splat.shear = -l.xy * splat.d;
  splat.log2_opacity = log2_opacity;
  splat.z = z;
  splat.left = static_cast<int32_t>(left);
  splat.right = static_cast<int32_t>(right);
  splat.top = static_cast<int32_t>(top);
  splat.bottom = static_cast<int32_t>(bottom);
  radius = std::max(reach_x, reach_y);
  return true;
}

void Projector::backward(const float mean[3], const float quat[4], const float scale[3], const Splat& s,
                         const SplatGradient& g, float mean_gradient[3], float quat_gradient[4],
                         float scale_gradient[3], double* viewmat_gradient) const {
  const Linearisation l = linearise(mean, quat, scale);
  const float iz = l.inverse_z, fx = camera_.fx, fy = camera_.fy;

  // Conic to covariance: d(cov) = -conic G conic with the symmetric G = [[g.a, g.b / 2], [g.b / 2, g.c]].
  const float a = s.a, b = s.b(), c = s.c(), off = 0.5f * g.b;
  const float h00 = g.a * a + off * b, h01 = g.a * b + off * c;
  const float h10 = off * a + g.c * b, h11 = off * b + g.c * c;
  const float gxx = -(a * h00 + b * h10), gxy = -(a * h01 + b * h11), gyy = -(b * h01 + c * h11);

  // cov = A A^T + blur, A = J W M (rows ax, ay).
  const Vec3 gax = 2.0f * (gxx * l.ax + gxy * l.ay), gay = 2.0f * (gxy * l.ax + gyy * l.ay);
  // Gradients of the rows of J: W M gax, W M gay. Only four entries of J vary.
  const Vec3 max_ = l.M * gax, may = l.M * gay;  // M gax, M gay
  const Vec3 gjx = l.W * max_, gjy = l.W * may;

  // p enters through the 2D mean (fx p.x / z + cx, ...), the depth and J.
  float gx = g.x * fx * iz, gy = g.y * fy * iz;
  float gz = g.z - (gx * l.p.x + gy * l.p.y) * iz;
  gz -= (gjx.x * fx + gjy.y * fy) * iz * iz;
  // J(0, 2) = -fx u / z. Where u is not clamped it is p.x / z and varies with p.
  const float gjx_z = gjx.z * fx * iz * iz, gjy_z = gjy.z * fy * iz * iz;
  const bool free_u = l.p.x * iz > min_u_ && l.p.x * iz < max_u_, free_v = l.p.y * iz > min_v_ && l.p.y * iz < max_v_;
  gx -= free_u ? gjx_z : 0.0f;
  gy -= free_v ? gjy_z : 0.0f;
  gz += gjx_z * l.u * (free_u ? 2.0f : 1.0f) + gjy_z * l.v * (free_v ? 2.0f : 1.0f);
  const Vec3 gp = {gx, gy, gz};
  store(l.W.transpose_times(gp), mean_gradient);

  // W enters through p and A: dL/dW = gp mean^T + jx (M gax)^T + jy (M gay)^T.
  const float row_p[3] = {gp.x, gp.y, gp.z}, row_x[3] = {l.jx.x, l.jx.y, l.jx.z}, row_y[3] = {l.jy.x, l.jy.y, l.jy.z};
  for (int r = 0; r < 3; ++r) {
    viewmat_gradient[4 * r + 0] += row_p[r] * mean[0] + row_x[r] * max_.x + row_y[r] * may.x;
    viewmat_gradient[4 * r + 1] += row_p[r] * mean[1] + row_x[r] * max_.y + row_y[r] * may.y;
    viewmat_gradient[4 * r + 2] += row_p[r] * mean[2] + row_x[r] * max_.z + row_y[r] * may.z;
    viewmat_gradient[4 * r + 3] += row_p[r];
  }

  // M = R S: dL/dM = (W^T jx) gax^T + (W^T jy) gay^T.
  const Vec3 wjx = l.W.transpose_times(l.jx), wjy = l.W.transpose_times(l.jy);
  const Mat3 gM = {{gax.x * wjx + gay.x * wjy, gax.y * wjx + gay.y * wjy, gax.z * wjx + gay.z * wjy}};
  const float n = inverse_norm(quat);
  const Quat q = {quat[0] * n, quat[1] * n, quat[2] * n, quat[3] * n};
  const Mat3 R = rotation(q);
  for (int k = 0; k < 3; ++k) scale_gradient[k] = dot(gM.col[k], R.col[k]);
  const Quat gq = rotation_backward(q, {{scale[0] * gM.col[0], scale[1] * gM.col[1], scale[2] * gM.col[2]}});
  // Normalisation keeps only what is tangential.
  const float radial = gq.w * q.w + gq.x * q.x + gq.y * q.y + gq.z * q.z;
  quat_gradient[0] = (gq.w - radial * q.w) * n;
  quat_gradient[1] = (gq.x - radial * q.x) * n;
  quat_gradient[2] = (gq.y - radial * q.y) * n;
  quat_gradient[3] = (gq.z - radial * q.z) * n;
}

}  // namespace lift
