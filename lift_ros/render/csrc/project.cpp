// A Gaussian in each lane. Lanes that turn out not to be drawn go on with the others; what becomes of them, NaN too, is
// dropped at the end.
#include "project.h"

#include <algorithm>
#include <cstring>
#include <limits>

#include "linalg.h"

namespace lift {
namespace {

constexpr float kNear = 0.01f;  // as gsplat has it; MIN_DEPTH of lift_ros/frame.py is the same
constexpr float kFar = 1e10f;
constexpr float kBlur = 0.3f;  // added to the 2D covariance so that no splat falls between pixels
constexpr float kMaxExtent = 3.34f;  // standard deviations at which a Gaussian of opacity 1 falls to alpha 1/255
constexpr float kInfinity = std::numeric_limits<float>::infinity();

Vec3 load_vec3(const float* array, const Rows& rows) {
  return {rows.column(array, 3, 0), rows.column(array, 3, 1), rows.column(array, 3, 2)};
}

Quat load_quat(const float* array, const Rows& rows) {
  return {rows.column(array, 4, 0), rows.column(array, 4, 1), rows.column(array, 4, 2), rows.column(array, 4, 3)};
}

// Row i of W, the rotation of the camera: its axis i in the world. The same in every lane.
Vec3 axis(const LiftCamera& camera, int i) {
  const float* row = camera.viewmat + 4 * i;
  return {broadcast(row[0]), broadcast(row[1]), broadcast(row[2])};
}

// W mean + t.
Vec3 to_camera(const LiftCamera& camera, Vec3 mean) {
  const float* m = camera.viewmat;
  return {dot(axis(camera, 0), mean) + m[3], dot(axis(camera, 1), mean) + m[7], dot(axis(camera, 2), mean) + m[11]};
}

void store(const Vec3& v, int lane, float out[3]) {
  out[0] = v.x[lane];
  out[1] = v.y[lane];
  out[2] = v.z[lane];
}

void store(const Quat& q, int lane, float out[4]) {
  out[0] = q.w[lane];
  out[1] = q.x[lane];
  out[2] = q.y[lane];
  out[3] = q.z[lane];
}

// The pixels, inclusive and inside an image of `size`, whose centres lie within `reach` of x. first > last if none.
struct PixelRange {
  LaneMask first, last;

  PixelRange(Lanes x, Lanes reach, int size) {
    // Pixel i has its centre at i + 0.5.
    const Lanes from = min(max(x - reach - 0.5f, broadcast(0.0f)), broadcast(size));
    const Lanes to = min(max(x + reach - 0.5f, broadcast(-1.0f)), broadcast(size - 1));
    // Conversion truncates, and a comparison is -1 where it holds: round up, and down.
    first = __builtin_convertvector(from, LaneMask);
    first -= __builtin_convertvector(first, Lanes) < from;
    last = __builtin_convertvector(to, LaneMask) + (to < 0.0f);
  }
};

}  // namespace

Conics::Conics(const Splat* splats, int64_t count) {
  static_assert(sizeof(Splat) % sizeof(float) == 0, "splats are read as rows of floats");
  constexpr int kColumns = sizeof(Splat) / sizeof(float);
  const Rows rows = Rows::range(0, count);
  a = rows.column(&splats->a, kColumns, 0);
  const Lanes shear = rows.column(&splats->shear, kColumns, 0);
  b = a * shear;
  c = rows.column(&splats->d, kColumns, 0) + b * shear;
}

// p = W mean + t; the covariance is A A^T with A = J W R S, J the Jacobian of the projection near p.
struct Projector::Linearisation {
  Vec3 mean, scale;
  Lanes inverse_norm;  // of the quaternion
  Quat q;              // unit
  Mat3 R;              // its rotation
  Vec3 p;
  Lanes inverse_z;
  Lanes u, v;          // p.x / z and p.y / z
  Lanes clamped_u, clamped_v;
  Lanes jx, jy;        // J = [[jx, 0, -jx clamped_u], [0, jy, -jy clamped_v]]
  Vec3 jwx, jwy;       // rows of J W
  Vec3 rx, ry;         // rows of J W R
  Vec3 ax, ay;         // rows of A
  Lanes xx, xy, yy;    // 2D covariance
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

// Inlined, because so many vectors would be returned through memory, at 2% of a pass.
[[gnu::always_inline]] inline Projector::Linearisation Projector::linearise(const LiftGaussians& g,
                                                                            const Rows& indices) const {
  Linearisation l;
  l.mean = load_vec3(g.means, indices);
  l.scale = load_vec3(g.scales, indices);
  l.p = to_camera(camera_, l.mean);
  l.inverse_z = 1.0f / l.p.z;
  l.u = l.p.x * l.inverse_z;
  l.v = l.p.y * l.inverse_z;
  l.clamped_u = min(max(l.u, broadcast(min_u_)), broadcast(max_u_));
  l.clamped_v = min(max(l.v, broadcast(min_v_)), broadcast(max_v_));
  l.jx = camera_.fx * l.inverse_z;
  l.jy = camera_.fy * l.inverse_z;
  l.jwx = l.jx * (axis(camera_, 0) + -l.clamped_u * axis(camera_, 2));
  l.jwy = l.jy * (axis(camera_, 1) + -l.clamped_v * axis(camera_, 2));

  const Quat quat = load_quat(g.quats, indices);
  l.inverse_norm = 1.0f / sqrt(dot(quat, quat));
  l.q = l.inverse_norm * quat;
  l.R = rotation(l.q);
  l.rx = l.R.transpose_times(l.jwx);
  l.ry = l.R.transpose_times(l.jwy);
  l.ax = l.rx * l.scale;
  l.ay = l.ry * l.scale;
  l.xx = dot(l.ax, l.ax) + kBlur;
  l.xy = dot(l.ax, l.ay);
  l.yy = dot(l.ay, l.ay) + kBlur;
  return l;
}

// Lists the Gaussians begin .. end that may be drawn. Most in front of the camera lie outside the image: a bound on the
// reach settles nearly all of them, and project() then fills its lanes with Gaussians that are worth the work.
int64_t Projector::near_image(const LiftGaussians& g, int64_t begin, int64_t end, int32_t* list) const {
  int64_t count = 0;
  for (int64_t i = begin; i < end; i += kLanes) {
    const Rows rows = Rows::range(i, end);
    const Vec3 p = to_camera(camera_, load_vec3(g.means, rows)), scale = load_vec3(g.scales, rows);
    const Lanes opacity = rows.column(g.opacities, 1, 0), inverse_z = 1.0f / p.z;
    const Lanes x = camera_.fx * (p.x * inverse_z) + camera_.cx, y = camera_.fy * (p.y * inverse_z) + camera_.cy;
    const Lanes widest = max(max(scale.x * scale.x, scale.y * scale.y), scale.z * scale.z);
    const Lanes bound = kMaxExtent * sqrt(widest * max_stretch_ * (inverse_z * inverse_z) + kBlur);
    // Written so that NaN fails every test.
    const LaneMask valid = (p.z > kNear) & (p.z < kFar) & (opacity >= kMinAlpha) & (opacity < kInfinity);
    const LaneMask passes = valid & (x + bound >= 0.5f) & (x - bound <= camera_.width - 0.5f) & (y + bound >= 0.5f) &
                            (y - bound <= camera_.height - 0.5f);
    const int lanes = static_cast<int>(std::min<int64_t>(kLanes, end - i));
    for (uint32_t bits = lane_bits(passes) & first_lanes(lanes); bits; bits &= bits - 1)
      list[count++] = static_cast<int32_t>(i) + __builtin_ctz(bits);
  }
  return count;
}

int64_t Projector::project(const LiftGaussians& g, int64_t begin, int64_t end, Splat* splats, int32_t* gaussian,
                           float* radii) const {
  if (radii) std::memset(radii + begin, 0, sizeof(float) * (end - begin));
  // The list shrinks in place to those that are drawn.
  const int64_t candidates = near_image(g, begin, end, gaussian);
  int64_t drawn = 0;
  for (int64_t i = 0; i < candidates; i += kLanes) {
    const int lanes = static_cast<int>(std::min<int64_t>(kLanes, candidates - i));
    const Rows indices = Rows::listed(gaussian + i, lanes);
    const Linearisation l = linearise(g, indices);
    const Lanes determinant = l.xx * l.yy - l.xy * l.xy;
    // opacity e^-sigma >= 1/255 within `extent` standard deviations; a little more, for rounding.
    const Lanes log2_opacity = log2(indices.column(g.opacities, 1, 0));
    const Lanes extent = sqrt(2.0f / kLog2e * max(log2_opacity - kLog2MinAlpha, broadcast(0.0f))) + 1e-3f;
    const Lanes reach_x = extent * sqrt(l.xx), reach_y = extent * sqrt(l.yy);
    const Lanes x = camera_.fx * l.u + camera_.cx, y = camera_.fy * l.v + camera_.cy;
    const PixelRange columns(x, reach_x, camera_.width), rows(y, reach_y, camera_.height);
    const LaneMask visible = (determinant > 0.0f) & (determinant < kInfinity) &  // not if NaN
                             (columns.first <= columns.last) & (rows.first <= rows.last);

    const Lanes a = l.yy / determinant, d = 1.0f / l.yy, shear = -l.xy * d, radius = max(reach_x, reach_y);
    for (uint32_t bits = lane_bits(visible) & first_lanes(lanes); bits; bits &= bits - 1) {
      const int lane = __builtin_ctz(bits);
      splats[drawn] = {x[lane], y[lane], a[lane], shear[lane], d[lane], log2_opacity[lane], l.p.z[lane],
                       columns.first[lane], columns.last[lane], rows.first[lane], rows.last[lane]};
      gaussian[drawn] = gaussian[i + lane];
      if (radii) radii[gaussian[drawn]] = radius[lane];
      ++drawn;
    }
  }
  return drawn;
}

void Projector::backward(const LiftGaussians& gaussians, const Rows& indices, int count, const Conics& conics,
                         const SplatGradients& g, const LiftGradients& out, double* viewmat_gradient) const {
  const Linearisation l = linearise(gaussians, indices);
  const Lanes iz = l.inverse_z;

  // Conic to covariance: d(cov) = -conic G conic with the symmetric G = [[g.a, g.b / 2], [g.b / 2, g.c]].
  const Lanes a = conics.a, b = conics.b, c = conics.c, off = 0.5f * g.b;
  const Lanes h00 = g.a * a + off * b, h01 = g.a * b + off * c;
  const Lanes h10 = off * a + g.c * b, h11 = off * b + g.c * c;
  const Lanes gxx = -2.0f * (a * h00 + b * h10), gxy = -2.0f * (a * h01 + b * h11), gyy = -2.0f * (b * h01 + c * h11);

  // cov = A A^T + blur, A = J W R S (rows ax, ay); the factor of 2 is in gxx, gxy and gyy.
  const Vec3 gax = gxx * l.ax + gxy * l.ay, gay = gxy * l.ax + gyy * l.ay;
  const Vec3 grx = l.scale * gax, gry = l.scale * gay;  // of the rows of J W R
  const Vec3 gjwx = l.R * grx, gjwy = l.R * gry;        // of J W
  // Of J, W times that; but only four of its entries vary.
  const Lanes gj00 = dot(axis(camera_, 0), gjwx), gj02 = dot(axis(camera_, 2), gjwx);
  const Lanes gj11 = dot(axis(camera_, 1), gjwy), gj12 = dot(axis(camera_, 2), gjwy);

  // p enters through the 2D mean (fx p.x / z + cx, ...), the depth and J.
  Vec3 gp;
  gp.x = g.x * l.jx;
  gp.y = g.y * l.jy;
  gp.z = g.z - (gp.x * l.u + gp.y * l.v) - (gj00 * l.jx + gj11 * l.jy) * iz;
  // J(0, 2) = -fx u / z. Where u is not clamped it is p.x / z and varies with p.
  const Lanes gu = gj02 * l.jx * iz, gv = gj12 * l.jy * iz;
  const LaneMask free_u = (l.u > min_u_) & (l.u < max_u_), free_v = (l.v > min_v_) & (l.v < max_v_);
  gp.x -= zero_unless(free_u, gu);
  gp.y -= zero_unless(free_v, gv);
  gp.z += gu * (l.clamped_u + zero_unless(free_u, l.u)) + gv * (l.clamped_v + zero_unless(free_v, l.v));
  const Vec3 gmean = gp.x * axis(camera_, 0) + (gp.y * axis(camera_, 1) + gp.z * axis(camera_, 2));

  // W enters through p and A: dL/dW = gp mean^T + J^T (gjwx, gjwy)^T.
  const Vec3 gw0 = gp.x * l.mean + l.jx * gjwx, gw1 = gp.y * l.mean + l.jy * gjwy;
  const Vec3 gw2 = gp.z * l.mean + -(l.jx * l.clamped_u) * gjwx + -(l.jy * l.clamped_v) * gjwy;
  const Lanes gviewmat[12] = {gw0.x, gw0.y, gw0.z, gp.x, gw1.x, gw1.y, gw1.z, gp.y, gw2.x, gw2.y, gw2.z, gp.z};
  for (int row = 0; row < 3; ++row) {
    float sums[4];
    sum_lanes(gviewmat + 4 * row, sums);
    for (int column = 0; column < 4; ++column) viewmat_gradient[4 * row + column] += sums[column];
  }

  // A = (J W R) S and dL/dR = (J W)^T (grx, gry)^T.
  const Vec3 gscale = gax * l.rx + gay * l.ry;
  const Mat3 gR = {{grx.x * l.jwx + gry.x * l.jwy, grx.y * l.jwx + gry.y * l.jwy, grx.z * l.jwx + gry.z * l.jwy}};
  const Quat gq = rotation_backward(l.q, gR);
  // Normalisation keeps only what is tangential.
  const Quat gquat = l.inverse_norm * (gq + -dot(gq, l.q) * l.q);

  for (int lane = 0; lane < count; ++lane) {
    const int64_t i = indices.first + indices.offset[lane];
    store(gmean, lane, out.means + 3 * i);
    store(gquat, lane, out.quats + 4 * i);
    store(gscale, lane, out.scales + 3 * i);
  }
}

}  // namespace lift
