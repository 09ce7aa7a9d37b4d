// Runs the kernels of kernels/cuda on the CPU, thread by thread, with the semantics of blocks, warps and barriers. For
// tests only: it is slow, and strict where a GPU is lenient.
//
// A block runs at a time. Each of its threads is a fiber (fiber.hpp) that runs until it must meet others at a barrier
// or in an operation of a warp (block.hpp, rendezvous.hpp). One warp runs as far as it can before the next does, which
// is the largest skew between warps that barriers allow; in which order is the schedule's choice, and asynchronous
// copies land at once or as late as they may. A kernel must answer the same under all schedules.
//
// What it finds: a missing barrier, a wrong wait count, a buffer overwritten while it is read (by answers that differ);
// barriers and warp operations that not all reach (an error that names kernel, threads and lines); writes beside shared
// arrays (canaries); reads of uninitialised shared memory (it holds 0xff: NaN, or -1). Under AddressSanitizer also any
// access outside global or shared memory, under ThreadSanitizer any that no barrier orders.
//
// What it does not cover: time, blocks that wait for each other, clusters. What sm_90a adds is in hopper.hpp.
// The scheme of fibers and of meeting points follows GPU emulators like Ocelot (Diamos et al., PACT 2010) and pocl.
#pragma once
#include "entry.hpp"
#include "half.hpp"
#include "intrinsics.hpp"
#include "language.hpp"
#include "shared_memory.hpp"
#include "tensor_cores.hpp"
