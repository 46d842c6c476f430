// Convolutions of every channel by itself: 16 of them at once, and a few pixels of a line, whose sums stay in registers.

#include "steps.h"

namespace effnets {
namespace {

#ifdef __AVX512F__
constexpr int PIXELS = 8;
#else
constexpr int PIXELS = 4;
#endif

struct Work {
  const float* in;  // the first tap of the first pixel
  Index row;        // from one line of taps to the next
  const float *weights, *bias;
  int height, width, stride, step;
};

// K: the width of the kernel, S: the stride, for taps without gaps; 0: as the work says.
template <int P, int K, int S>
void convolve(const Work& work, Vector* sums) {
  const int width = K ? K : work.width, stride = S ? S : work.stride, step = K ? 1 : work.step;
  Vector sum[P];
  for (int p = 0; p < P; ++p) sum[p] = load(work.bias);
  const float* w = work.weights;
  for (int y = 0; y < work.height; ++y) {
    const float* const line = work.in + y * work.row;
#pragma GCC unroll 7
    for (int x = 0; x < width; ++x, w += LANES) {
      const Vector weight = load(w);
#pragma GCC unroll 8
      for (int p = 0; p < P; ++p) sum[p] += weight * load(line + Index(p * stride + x * step) * LANES);
    }
  }
  for (int p = 0; p < P; ++p) sums[p] = sum[p];
}

using Convolve = void (*)(const Work&, Vector*);

template <int K, int S>
Convolve by_pixels(int pixels) {
  static const Convolve all_of[] = {convolve<1, K, S>, convolve<2, K, S>, convolve<3, K, S>, convolve<4, K, S>,
#ifdef __AVX512F__
                                    convolve<5, K, S>, convolve<6, K, S>, convolve<7, K, S>, convolve<8, K, S>
#endif
  };
  return all_of[pixels - 1];
}

Convolve kernel_of(const Kernel& k, int pixels) {
  if (k.step_x == 1 && k.stride_x <= 2) {
    const bool two = k.stride_x == 2;
    if (k.width == 1 && !two) return by_pixels<1, 1>(pixels);
    if (k.width == 3) return two ? by_pixels<3, 2>(pixels) : by_pixels<3, 1>(pixels);
    if (k.width == 5) return two ? by_pixels<5, 2>(pixels) : by_pixels<5, 1>(pixels);
    if (k.width == 7) return two ? by_pixels<7, 2>(pixels) : by_pixels<7, 1>(pixels);
  }
  return by_pixels<0, 0>(pixels);
}

}  // namespace

void run_depthwise(const StepPlan& p, const float* weights, float* arena, Share share) {
  write_zeros(p.out, arena, share);
  const Step& s = *p.step;
  const Kernel& k = s.kernel;
  const Index height = p.out.height, count = height * s.blocks();
  const int width = p.out.width, parts = (width + PIXELS - 1) / PIXELS;
  Vector sums[PIXELS];
  for (Index i = share.begin(count); i < share.end(count); ++i) {
    const int block = static_cast<int>(i / height), y = static_cast<int>(i % height);
    const Source& in = p.sources[block];
    const float* const line = arena + in.place + (Index(y) * k.stride_y - k.top) * in.row - Index(k.left) * LANES;
    const Finish f = {s.act, s.late, p.others.empty() ? nullptr : &p.others[block]};
    for (int part = 0, x = 0; part < parts; ++part) {
      const int pixels = (width - x + parts - part - 1) / (parts - part);
      const Work work = {line + Index(x) * k.stride_x * LANES,
                         k.step_y * in.row,
                         weights + s.weights + Index(block) * k.height * k.width * LANES,
                         weights + p.biases + Index(block) * LANES,
                         k.height,
                         k.width,
                         k.stride_x,
                         k.step_x};
      kernel_of(k, pixels)(work, sums);
      finish(p, f, sums, y * width + x, pixels, block, 1, arena);
      x += pixels;
    }
  }
}

}  // namespace effnets
