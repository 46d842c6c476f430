// A network as a list of steps, read from numbers in a text and checked.
//
// Every step makes one tensor, whose number is that of the step; the steps `output` make one result of the operator
// each. A step is a row of whole numbers, rows end in semicolons. What a row holds is written beside `Step` below, in
// the order of its numbers; gluon_effnets/deploy/compiled/program.py writes them.

#ifndef GLUON_EFFNETS_PROGRAM_H_
#define GLUON_EFFNETS_PROGRAM_H_

#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

#include "vectors.h"

namespace effnets {

using Index = std::int64_t;

struct Refused : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// Consecutive channels of a tensor, or blocks of 16 of them. Tensor -1: zeros.
struct Run {
  int tensor, first, count;
};

// Where a kernel is put: its sides, strides, distances of its taps, lines of zeros around the map.
struct Kernel {
  int height = 1, width = 1, stride_y = 1, stride_x = 1, step_y = 1, step_x = 1;
  int top = 0, left = 0, bottom = 0, right = 0;

  bool is_point() const { return height == 1 && width == 1 && !top && !left && !bottom && !right; }
};

// Blocks of 16 outputs that read the same channels.
struct Group {
  int blocks;
  std::vector<Run> runs;
};

enum class Kind : int { input, conv, depthwise, pool, combine, select, output };
enum class Pool : int { mean, mean_inside, max, global };
enum class Combine : int { add, multiply, scale };  // scale: by one number for each channel

struct Step {
  Kind kind;
  // input: channels, weights: a factor for each, then what is added
  // conv: channels, weights, kernel (10), act, late act, number of groups, for each: blocks, runs; runs of the sum
  // depthwise: channels, weights, kernel (10), act, late act, runs; runs of the sum
  // pool: channels, how, kernel (10), 1 if the last windows may hang over, runs
  // combine: channels, how, late act, runs, runs of the other operand
  // select: channels, runs; the only ones that may be -1, and that may be cut anywhere
  // output: channels, 1 for results (N, C) instead of maps, runs
  int channels = 0;
  // The place of the first. Of conv: groups of [block][input and tap][16], then [block][16] biases.
  Index weights = 0;
  Kernel kernel;
  Act act = Act::none, late = Act::none;  // before and after the sum
  int how = 0;
  bool flag = false;
  std::vector<Group> groups;
  std::vector<Run> runs, other;  // in channels for conv, select, output; in blocks for depthwise, pool, combine, sums

  int blocks() const { return (channels + LANES - 1) / LANES; }
};

using Program = std::vector<Step>;

// Raises Refused for a text that is none.
Program read_program(const std::string& text);

}  // namespace effnets

#endif  // GLUON_EFFNETS_PROGRAM_H_
