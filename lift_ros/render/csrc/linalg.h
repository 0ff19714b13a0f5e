// The little linear algebra of the projection.
#pragma once

#include <cmath>

namespace lift {

struct Vec3 {
  float x, y, z;
};

inline Vec3 operator+(Vec3 a, Vec3 b) { return {a.x + b.x, a.y + b.y, a.z + b.z}; }
inline Vec3 operator*(float s, Vec3 a) { return {s * a.x, s * a.y, s * a.z}; }
inline float dot(Vec3 a, Vec3 b) { return a.x * b.x + a.y * b.y + a.z * b.z; }

// Three columns.
struct Mat3 {
  Vec3 col[3];

  Vec3 operator*(Vec3 v) const { return v.x * col[0] + (v.y * col[1] + v.z * col[2]); }
  Vec3 transpose_times(Vec3 v) const { return {dot(col[0], v), dot(col[1], v), dot(col[2], v)}; }
};

struct Quat {
  float w, x, y, z;
};

inline float inverse_norm(const float q[4]) {
  return 1.0f / std::sqrt(q[0] * q[0] + q[1] * q[1] + q[2] * q[2] + q[3] * q[3]);
}

inline Mat3 rotation(Quat q) {
  const float xx = q.x * q.x, yy = q.y * q.y, zz = q.z * q.z;
  const float xy = q.x * q.y, xz = q.x * q.z, yz = q.y * q.z, wx = q.w * q.x, wy = q.w * q.y, wz = q.w * q.z;
  return {{{1 - 2 * (yy + zz), 2 * (xy + wz), 2 * (xz - wy)},
           {2 * (xy - wz), 1 - 2 * (xx + zz), 2 * (yz + wx)},
           {2 * (xz + wy), 2 * (yz - wx), 1 - 2 * (xx + yy)}}};
}

// Gradient with respect to the unit quaternion, from the gradient g with respect to rotation(q).
inline Quat rotation_backward(Quat q, const Mat3& g) {
  // r(i, j) is the gradient of row i, column j.
  const float r00 = g.col[0].x, r10 = g.col[0].y, r20 = g.col[0].z;
  const float r01 = g.col[1].x, r11 = g.col[1].y, r21 = g.col[1].z;
  const float r02 = g.col[2].x, r12 = g.col[2].y, r22 = g.col[2].z;
  return {2 * (q.x * (r21 - r12) + q.y * (r02 - r20) + q.z * (r10 - r01)),
          2 * (q.w * (r21 - r12) + q.y * (r01 + r10) + q.z * (r02 + r20) - 2 * q.x * (r11 + r22)),
          2 * (q.w * (r02 - r20) + q.x * (r01 + r10) + q.z * (r12 + r21) - 2 * q.y * (r00 + r22)),
          2 * (q.w * (r10 - r01) + q.x * (r02 + r20) + q.y * (r12 + r21) - 2 * q.z * (r00 + r11))};
}

}  // namespace lift
