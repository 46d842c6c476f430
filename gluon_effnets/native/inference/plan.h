// A program for images of one size: the shape of every tensor, its place in memory, and where every step reads.
//
// Tensors of one image lie in one array, the arena, in blocks of 16 channels: [block][line][column][16], with lines of
// zeros around them where a kernel needs them. The input alone lies in planes, [channel][line][column]. A tensor's
// memory serves others once it has been read for the last time.

#ifndef GLUON_EFFNETS_PLAN_H_
#define GLUON_EFFNETS_PLAN_H_

#include <vector>

#include "program.h"

namespace effnets {

struct Tensor {
  int channels = 0, height = 0, width = 0;
  int top = 0, left = 0, bottom = 0, right = 0;  // zeros around it
  int lane = LANES;                              // from one column to the next
  Index place = 0;                               // in the arena

  Index row() const { return Index(left + width + right) * lane; }
  Index plane() const { return row() * (top + height + bottom); }  // of a block, or of a channel
  int planes() const { return lane == 1 ? channels : (channels + LANES - 1) / LANES; }
  Index size() const { return plane() * planes(); }
  Index pixels() const { return Index(height) * width; }
  bool is_compact() const { return !(top || left || bottom || right); }
  Index first(Index plane_number) const { return place + plane_number * plane() + top * row() + left * lane; }
  Index at(int channel) const { return lane == 1 ? first(channel) : first(channel / LANES) + channel % LANES; }
};

// Blocks of outputs that are computed together.
struct Chunk {
  int group, block, count;
  Index weights;  // of its first block
};

// Pixels that are computed together: the place of the first in the input, and its number.
struct Tile {
  Index in;
  int pixel, count;
};

struct Source {
  Index place;  // of the first pixel of a block, or of a channel
  Index row;
  int lane;
};

struct StepPlan {
  const Step* step = nullptr;
  Tensor out;
  int in_height = 0, in_width = 0;
  std::vector<std::vector<std::int32_t>> taps;  // of conv: where each group's inputs lie, from the first pixel
  std::vector<Chunk> chunks;
  std::vector<Tile> tiles;
  Index pixel_step = 0;
  std::vector<std::int32_t> positions;  // of every pixel in a block of the output
  std::vector<Source> sources, others;
  Index biases = 0;
};

struct Plan {
  std::vector<StepPlan> steps;
  Index arena = 0, weights = 0;  // floats that are needed
};

// Raises Refused where shapes do not fit together. The program must stay where it is.
Plan make_plan(const Program& program, int channels, int height, int width);

// The largest number of pixels for `blocks` blocks of outputs at once, whose sums fit into registers.
int most_pixels(int blocks, bool dense);
constexpr int MOST_BLOCKS = 4;

}  // namespace effnets

#endif  // GLUON_EFFNETS_PLAN_H_
