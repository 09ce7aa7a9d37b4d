// The depthwise part of conv2d_int8.
#pragma once
#include "conv2d_int8.hpp"

namespace cvperf {
namespace CVPERF_ISA {

void conv2d_int8_depthwise(const Conv2dInt8Args& args);

}  // namespace CVPERF_ISA
}  // namespace cvperf
