// The little linear algebra of the projection, each number one of several Gaussians in every lane.
#pragma once

#include "simd.h"

namespace lift {

struct Vec3 {
  Lanes x, y, z;
};

inline Vec3 operator+(Vec3 a, Vec3 b) { return {a.x + b.x, a.y + b.y, a.z + b.z}; }
inline Vec3 operator*(Lanes s, Vec3 a) { return {s * a.x, s * a.y, s * a.z}; }
inline Vec3 operator*(Vec3 a, Vec3 b) { return {a.x * b.x, a.y * b.y, a.z * b.z}; }  // element by element
inline Lanes dot(Vec3 a, Vec3 b) { return a.x * b.x + a.y * b.y + a.z * b.z; }

// Three columns.
struct Mat3 {
  Vec3 col[3];

  Vec3 operator*(Vec3 v) const { return v.x * col[0] + (v.y * col[1] + v.z * col[2]); }
  Vec3 transpose_times(Vec3 v) const { return {dot(col[0], v), dot(col[1], v), dot(col[2], v)}; }
};

struct Quat {
  Lanes w, x, y, z;
};

inline Quat operator+(Quat a, Quat b) { return {a.w + b.w, a.x + b.x, a.y + b.y, a.z + b.z}; }
inline Quat operator*(Lanes s, Quat q) { return {s * q.w, s * q.x, s * q.y, s * q.z}; }
inline Lanes dot(Quat a, Quat b) { return a.w * b.w + a.x * b.x + a.y * b.y + a.z * b.z; }

// Of a unit quaternion.
inline Mat3 rotation(Quat q) {
  const Lanes xx = q.x * q.x, yy = q.y * q.y, zz = q.z * q.z;
  const Lanes xy = q.x * q.y, xz = q.x * q.z, yz = q.y * q.z, wx = q.w * q.x, wy = q.w * q.y, wz = q.w * q.z;
  return {{{1.0f - 2.0f * (yy + zz), 2.0f * (xy + wz), 2.0f * (xz - wy)},
           {2.0f * (xy - wz), 1.0f - 2.0f * (xx + zz), 2.0f * (yz + wx)},
           {2.0f * (xz + wy), 2.0f * (yz - wx), 1.0f - 2.0f * (xx + yy)}}};
}

// Gradient with respect to the unit quaternion, from the gradient g with respect to rotation(q).
inline Quat rotation_backward(Quat q, const Mat3& g) {
  // r(i, j) is the gradient of row i, column j.
  const Lanes r00 = g.col[0].x, r10 = g.col[0].y, r20 = g.col[0].z;
  const Lanes r01 = g.col[1].x, r11 = g.col[1].y, r21 = g.col[1].z;
  const Lanes r02 = g.col[2].x, r12 = g.col[2].y, r22 = g.col[2].z;
  const Lanes w = q.x * (r21 - r12) + q.y * (r02 - r20) + q.z * (r10 - r01);
  const Lanes x = q.w * (r21 - r12) + q.y * (r01 + r10) + q.z * (r02 + r20) - 2.0f * q.x * (r11 + r22);
  const Lanes y = q.w * (r02 - r20) + q.x * (r01 + r10) + q.z * (r12 + r21) - 2.0f * q.y * (r00 + r22);
  const Lanes z = q.w * (r10 - r01) + q.x * (r02 + r20) + q.y * (r12 + r21) - 2.0f * q.z * (r00 + r11);
  return {2.0f * w, 2.0f * x, 2.0f * y, 2.0f * z};
}

}  // namespace lift
