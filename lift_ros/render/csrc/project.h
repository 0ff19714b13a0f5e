// EWA projection of Gaussians (Zwicker et al. 2001; 3D Gaussian Splatting, eq. 5) and its gradient.
//
// The conventions are gsplat 1.5.3's "classic" mode: 0.3 px^2 is added to the 2D covariance, a splat ends where its
// alpha falls below 1/255, and the point where the projection is linearised is clamped to 1.3 times the field of view.
#pragma once

#include <cstdint>

#include "lift_raster.h"
#include "simd.h"

namespace lift {

constexpr float kMinAlpha = 1.0f / 255.0f;
constexpr float kLog2MinAlpha = -7.99435344f;
constexpr float kMaxAlpha = 0.999f;
constexpr float kMinTransmittance = 1e-4f;

// A Gaussian on the image plane: alpha = opacity e^-sigma, sigma = (a (dx + shear dy)^2 + d dy^2) / 2. Written like
// this sigma cannot turn negative by rounding, as (a dx^2 + 2 b dx dy + c dy^2) / 2 can for needles.
struct Splat {
  float x, y;         // centre, pixels
  float a, shear, d;  // a and d are positive
  float log2_opacity;
  float z;            // depth of the centre
  int32_t left, right, top, bottom;  // the pixels it can reach, inclusive, inside the image
};

// The inverse 2D covariances [[a, b], [b, c]] of splats, one in each lane.
struct Conics {
  Lanes a, b, c;

  // The first of `count` splats; past the end the last is repeated.
  Conics(const Splat* splats, int64_t count);
};

// Gradients with respect to splats, with the a, b and c of their inverse covariances as independent variables.
struct SplatGradients {
  Lanes x, y, a, b, c, z;
};

class Projector {
 public:
  explicit Projector(const LiftCamera& camera);

  // Projects the Gaussians begin .. end and packs those that are drawn, in their order: neither behind the camera nor
  // outside the image nor too faint, and finite. Returns how many; splats and gaussian, their indices, have room for
  // all. radii (N,), may be NULL: how far each reaches along the image's rows or columns, the larger of the two, in
  // pixels, or 0.
  int64_t project(const LiftGaussians& gaussians, int64_t begin, int64_t end, Splat* splats, int32_t* gaussian,
                  float* radii) const;

  // Chain rule through project() for the Gaussians `indices`, of which the first `count` lanes are meant; in the others
  // `gradients` are zero. Writes out.means, quats and scales; viewmat_gradient (16) is added to.
  void backward(const LiftGaussians& gaussians, const Rows& indices, int count, const Conics& conics,
                const SplatGradients& gradients, const LiftGradients& out, double* viewmat_gradient) const;

 private:
  struct Linearisation;
  int64_t near_image(const LiftGaussians& gaussians, int64_t begin, int64_t end, int32_t* list) const;
  Linearisation linearise(const LiftGaussians& gaussians, const Rows& indices) const;

  LiftCamera camera_;
  float min_u_, max_u_, min_v_, max_v_;  // bounds of x / z and y / z at the point of linearisation
  float max_stretch_;  // a length at depth 1 covers at most this, squared and in pixels, per unit squared
};

}  // namespace lift
