// Convolutions as products of matrices: for a few pixels and blocks of outputs, whose sums stay in registers, every
// input of every tap is multiplied with its weights. An input is the place of a number in the arena, so that groups,
// parts, joints and shuffles of channels cost nothing.

#include <limits>

#include "steps.h"

namespace effnets {
namespace {

// What a tile of P pixels and NB blocks needs.
struct Work {
  const float* in;  // the first pixel
  Index pixel_step;
  const std::int32_t* taps;
  Index num_taps;
  const float *weights, *biases;
};

template <int P, int NB, bool DENSE>
void multiply(const Work& work, Vector* sums) {
  const Index step = work.num_taps * LANES;
  const float* in[DENSE ? 1 : P];
  for (int p = 0; p < (DENSE ? 1 : P); ++p) in[p] = work.in + p * work.pixel_step;
  Vector sum[NB][P];
  for (int b = 0; b < NB; ++b)
    for (int p = 0; p < P; ++p) sum[b][p] = load(work.biases + b * LANES);
  const float* w = work.weights;
  for (Index k = 0; k < work.num_taps; ++k, w += LANES) {
    const Index tap = work.taps[k];
    Vector weights[NB];
    for (int b = 0; b < NB; ++b) weights[b] = load(w + b * step);
    for (int p = 0; p < P; ++p) {
      const Vector x = all(DENSE ? in[0][tap + p * LANES] : in[DENSE ? 0 : p][tap]);
      for (int b = 0; b < NB; ++b) sum[b][p] += x * weights[b];
    }
  }
  for (int b = 0; b < NB; ++b)
    for (int p = 0; p < P; ++p) sums[b * P + p] = sum[b][p];
}

using Multiply = void (*)(const Work&, Vector*);

#define ROW6(NB, D) multiply<1, NB, D>, multiply<2, NB, D>, multiply<3, NB, D>, multiply<4, NB, D>, \
                    multiply<5, NB, D>, multiply<6, NB, D>
#define ROW14(NB, D) ROW6(NB, D), multiply<7, NB, D>, multiply<8, NB, D>, multiply<9, NB, D>, multiply<10, NB, D>, \
                     multiply<11, NB, D>, multiply<12, NB, D>, multiply<13, NB, D>, multiply<14, NB, D>
#define ROW8(NB, D) ROW6(NB, D), multiply<7, NB, D>, multiply<8, NB, D>

Multiply kernel_of(int pixels, int blocks, bool dense) {
#ifdef __AVX512F__
  static const Multiply one[] = {ROW14(1, true)}, two[] = {ROW14(2, true)},
                        three[] = {ROW8(3, true), multiply<9, 3, true>}, four[] = {ROW6(4, true)};
  static const Multiply one_apart[] = {ROW8(1, false)}, two_apart[] = {ROW8(2, false)};
#else
  static const Multiply one[] = {ROW6(1, true)},
                        two[] = {multiply<1, 2, true>, multiply<2, 2, true>, multiply<3, 2, true>},
                        three[] = {multiply<1, 3, true>, multiply<2, 3, true>}, four[] = {multiply<1, 4, true>};
  static const Multiply one_apart[] = {ROW6(1, false)},
                        two_apart[] = {multiply<1, 2, false>, multiply<2, 2, false>, multiply<3, 2, false>};
#endif
  static const Multiply* const together[] = {one, two, three, four};
  static const Multiply* const apart[] = {one_apart, two_apart};
  return (dense ? together : apart)[blocks - 1][pixels - 1];
}

}  // namespace

void finish(const StepPlan& p, const Finish& f, const Vector* sums, int pixel, int pixels, int block, int blocks,
            float* arena) {
  const int width = p.out.width;
  for (int b = 0; b < blocks; ++b) {
    float* const out = arena + p.out.first(block + b);
    const std::int32_t* const positions = &p.positions[pixel];
    const Vector* const from = sums + b * pixels;
    if (!f.other) {
      switch (f.act) {
        case Act::none:
          for (int i = 0; i < pixels; ++i) store(out + positions[i], from[i]);
          break;
        case Act::hard_swish:
          for (int i = 0; i < pixels; ++i) store(out + positions[i], activate(Act::hard_swish, from[i]));
          break;
        case Act::swish:
          for (int i = 0; i < pixels; ++i) store(out + positions[i], activate(Act::swish, from[i]));
          break;
        case Act::relu:
          for (int i = 0; i < pixels; ++i) store(out + positions[i], activate(Act::relu, from[i]));
          break;
        case Act::relu6:
          for (int i = 0; i < pixels; ++i) store(out + positions[i], activate(Act::relu6, from[i]));
          break;
        default:
          for (int i = 0; i < pixels; ++i) store(out + positions[i], activate(f.act, from[i]));
      }
      continue;
    }
    const Source& other = f.other[b];
    int y = pixel / width, x = pixel % width;
    for (int i = 0; i < pixels; ++i) {
      const Vector more = load(arena + other.place + y * other.row + x * other.lane);
      store(out + positions[i], activate(f.late, activate(f.act, from[i]) + more));
      if (++x == width) {
        x = 0;
        ++y;
      }
    }
  }
}

void run_conv(const StepPlan& p, const float* weights, float* arena, Share share) {
  write_zeros(p.out, arena, share);
  const Step& s = *p.step;
  const bool dense = p.pixel_step == LANES;
  const Index tiles = static_cast<Index>(p.tiles.size()), count = tiles * static_cast<Index>(p.chunks.size());
  Vector sums[MOST_BLOCKS * 14];
  for (Index i = share.begin(count); i < share.end(count); ++i) {
    const Chunk& chunk = p.chunks[i / tiles];
    const Tile& tile = p.tiles[i % tiles];
    const std::vector<std::int32_t>& taps = p.taps[chunk.group];
    const Work work = {arena + tile.in,          p.pixel_step,
                       taps.data(),              static_cast<Index>(taps.size()),
                       weights + chunk.weights,  weights + p.biases + Index(chunk.block) * LANES};
    kernel_of(tile.count, chunk.count, dense)(work, sums);
    const Finish f = {s.act, s.late, p.others.empty() ? nullptr : &p.others[chunk.block]};
    finish(p, f, sums, tile.pixel, tile.count, chunk.block, chunk.count, arena);
  }
}

}  // namespace effnets
