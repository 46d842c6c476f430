// Vectors of 16 floats: one register with AVX-512, several with less.

#ifndef GLUON_EFFNETS_VECTORS_H_
#define GLUON_EFFNETS_VECTORS_H_

#include <cstdint>

namespace effnets {

constexpr int LANES = 16;

typedef float Vector __attribute__((vector_size(64)));
typedef std::int32_t Integers __attribute__((vector_size(64)));
typedef float Unaligned __attribute__((vector_size(64), aligned(4), may_alias));

static inline __attribute__((always_inline)) Vector load(const float* from) {
  return *reinterpret_cast<const Unaligned*>(from);
}

static inline __attribute__((always_inline)) void store(float* to, const Vector& v) {
  *reinterpret_cast<Unaligned*>(to) = v;
}

static inline __attribute__((always_inline)) Vector all(float x) {
  return Vector{x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x};
}

enum class Act : int { none, relu, relu6, hard_swish, swish, sigmoid, hard_sigmoid };
constexpr int LAST_ACT = static_cast<int>(Act::hard_sigmoid);

// exp(x) to 2 units in the last place.
static inline Vector exponential(Vector x) {
  x = x < -87.f ? all(-87.f) : x > 88.f ? all(88.f) : x;
  const Vector scaled = x * 1.44269504088896f + 0.5f;
  Integers whole = __builtin_convertvector(scaled, Integers);
  // Conversion cuts towards 0; a comparison that holds is -1.
  whole += __builtin_convertvector(whole, Vector) > scaled;
  const Vector floor = __builtin_convertvector(whole, Vector);
  const Vector rest = (x - floor * 0.693359375f) + floor * 2.12194440e-4f;
  Vector sum = all(1.9875691500e-4f);
  sum = sum * rest + 1.3981999507e-3f;
  sum = sum * rest + 8.3334519073e-3f;
  sum = sum * rest + 4.1665795894e-2f;
  sum = sum * rest + 1.6666665459e-1f;
  sum = sum * rest + 5.0000001201e-1f;
  sum = sum * rest * rest + rest + 1.f;
  const Integers bits = (whole + 127) << 23;
  return sum * (Vector)bits;
}

static inline Vector sigmoid(const Vector& x) { return 1.f / (1.f + exponential(-x)); }

static inline Vector hard_sigmoid(const Vector& x) {
  const Vector gate = x * (1.f / 6.f) + 0.5f;
  return gate < 0.f ? all(0.f) : gate > 1.f ? all(1.f) : gate;
}

// The comparisons are such that what is not a number stays so.
static inline Vector activate(Act act, const Vector& x) {
  switch (act) {
    case Act::relu: return x < 0.f ? all(0.f) : x;
    case Act::relu6: return x < 0.f ? all(0.f) : x > 6.f ? all(6.f) : x;
    case Act::hard_swish: return x * hard_sigmoid(x);
    case Act::swish: return x * sigmoid(x);
    case Act::sigmoid: return sigmoid(x);
    case Act::hard_sigmoid: return hard_sigmoid(x);
    default: return x;
  }
}

}  // namespace effnets

#endif  // GLUON_EFFNETS_VECTORS_H_
