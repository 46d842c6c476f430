// What runs the steps of a plan for one image. A thread does its share of a step; all wait for each other behind it.

#ifndef GLUON_EFFNETS_STEPS_H_
#define GLUON_EFFNETS_STEPS_H_

#include <algorithm>

#include "plan.h"

namespace effnets {

struct Share {
  int thread, threads;

  // The part [begin, end) of `count` equal pieces of work.
  Index begin(Index count) const { return count * thread / threads; }
  Index end(Index count) const { return count * (thread + 1) / threads; }
};

// What happens to sums of a block on their way into the map: activation, sum with another map, activation.
struct Finish {
  Act act, late;
  const Source* other;  // of the first block, or null
};

// Vectors of pixels from `pixel` on, and of `blocks` blocks one behind the other.
void finish(const StepPlan& p, const Finish& f, const Vector* sums, int pixel, int pixels, int block, int blocks,
            float* arena);

// Writes the zeros around this thread's share of the blocks of a tensor.
void write_zeros(const Tensor& t, float* arena, Share share);

void run_conv(const StepPlan& p, const float* weights, float* arena, Share share);
void run_depthwise(const StepPlan& p, const float* weights, float* arena, Share share);
void run_pool(const StepPlan& p, float* arena, Share share);
void run_combine(const StepPlan& p, float* arena, Share share);
void run_select(const StepPlan& p, float* arena, Share share);
void run_input(const StepPlan& p, const float* data, const float* weights, float* arena, Share share);
void run_output(const StepPlan& p, const float* arena, float* result, Share share);

}  // namespace effnets

#endif  // GLUON_EFFNETS_STEPS_H_
