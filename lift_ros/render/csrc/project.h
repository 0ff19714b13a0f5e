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

// A Gaussian on the image plane. sigma(d) = (a dx^2 + c dy^2) / 2 + b dx dy, alpha = opacity e^-sigma.
struct Splat {
  float x, y;                  // centre, pixels
  float a, b, c;               // inverse 2D covariance
  float opacity, log2_opacity;
  float z;                     // depth of the centre
  int32_t left, right, top, bottom;  // the pixels it can reach, inclusive, inside the image
};

// Gradient with respect to a Splat. a, b and c as independent variables of sigma.
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
