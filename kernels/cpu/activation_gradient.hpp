// Gradients of the activations, for kernels that compute an activation's input again. At the corners they are torch's:
// relu passes nothing at 0, and the gradient at NaN.
#pragma once
#include "activation.hpp"

namespace cvperf {
namespace CVPERF_ISA {

// The gradient of x, which activate(activation, x) was given, from that of its answer.
CVPERF_INLINE Vec<float> activation_gradient(Activation activation, Vec<float> x, Vec<float> grad) {
  const Vec<float> zero{}, one = broadcast(1.0f);
  switch (activation) {
    case Activation::relu:
      return x <= zero ? zero : grad;
    case Activation::relu6:
      return x <= zero ? zero : (x >= broadcast(6.0f) ? zero : grad);
    case Activation::silu: {
      const Vec<float> gate = one / (one + exp(-x));
      return grad * gate * (one + x * (one - gate));
    }
    case Activation::hardswish: {
      const Vec<float> middle = grad * (x / 3.0f + 0.5f);
      return x <= broadcast(-3.0f) ? zero : (x >= broadcast(3.0f) ? grad : middle);
    }
    case Activation::sigmoid: {
      const Vec<float> gate = one / (one + exp(-x));
      return grad * (one - gate) * gate;
    }
    case Activation::leaky_relu:
      return x > zero ? grad : grad * static_cast<float>(kLeakyReluSlope);
    default:
      return grad;
  }
}

}  // namespace CVPERF_ISA
}  // namespace cvperf
