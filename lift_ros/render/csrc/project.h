// EWA projection of Gaussians (Zwicker et al. 2001; 3D Gaussian Splatting, eq. 5) and its gradient.
//
// The conventions are gsplat 1.5.3's "classic" mode: 0.3 px^2 is added to the 2D covariance, a splat ends where its
// alpha falls below 1/255, and the point where the projection is linearised is clamped to 1.3 times the field of view.
#pragma once

#include <cstdint>

#include "lift_raster.h"

namespace lift {

constexpr float kMinAlpha = 1.0f / 255.0f;
constexpr float kLog2MinAlpha = -7.99435344f;
constexpr float kMaxAlpha = 0.999f;
constexpr float kMinTransmittance = 1e-4f;
constexpr float kLog2e = 1.44269504f;

// A Gaussian on the image plane: alpha = opacity e^-sigma, sigma = (a (dx + shear dy)^2 + d dy^2) / 2. Written like this
// sigma cannot turn negative by rounding, as (a dx^2 + 2 b dx dy + c dy^2) / 2 can for needles.
struct Splat {
  float x, y;         // centre, pixels
  float a, shear, d;  // a and d are positive
  float log2_opacity;
  float z;            // depth of the centre
  int32_t left, right, top, bottom;  // the pixels it can reach, inclusive, inside the image

  // The inverse 2D covariance is [[a, b], [b, c]].
  float b() const { return a * shear; }
  float c() const { return d + a * shear * shear; }
};

// Gradient with respect to a splat, with the a, b and c of its inverse covariance as independent variables.
struct SplatGradient {
  float x, y, a, b, c, z;
};

class Projector {
 public:
  explicit Projector(const LiftCamera& camera);

  // False if the Gaussian is not drawn: behind the camera, outside the image, too faint, or not finite.
  // radius: the largest distance from the centre that it reaches, in pixels.
  bool project(const float mean[3], const float quat[4], const float scale[3], float opacity, Splat& splat,
               float& radius) const;

  // Chain rule through project(). mean, quat and scale gradients are written, viewmat_gradient (16) is added to.
  void backward(const float mean[3], const float quat[4], const float scale[3], const Splat& splat,
                const SplatGradient& gradient, float mean_gradient[3], float quat_gradient[4],
                float scale_gradient[3], double* viewmat_gradient) const;

 private:
  struct Linearisation;
  Linearisation linearise(const float mean[3], const float quat[4], const float scale[3]) const;

  LiftCamera camera_;
  float min_u_, max_u_, min_v_, max_v_;  // bounds of x / z and y / z at the point of linearisation
  float max_stretch_;  // a length at depth 1 covers at most this, squared and in pixels, per unit squared
};

}  // namespace lift
