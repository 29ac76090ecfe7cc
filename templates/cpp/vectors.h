// Vectors of reals and integers, one lane for each query, and the operations that patterns and scores are made of.
//
// Wants before it: `Real` (float or double), the type of sums, and `Int` (int32_t or int64_t), the type of positions.
// Most operations take single values and vectors in any mixture, so that what does not change from query to query is
// computed once. A condition is `bool`, or `Bools`: 0 or -1 in each lane.
#pragma once
#include <cstdint>
#include <cstring>
#include <type_traits>

#define INLINE static inline __attribute__((always_inline))
#define INLINE_MEMBER inline __attribute__((always_inline))

#if defined(__AVX512F__)
#define VECTOR_BYTES 64
constexpr int REGISTERS = 32;
#elif defined(__AVX__)
#define VECTOR_BYTES 32
constexpr int REGISTERS = 16;
#elif defined(__aarch64__)
#define VECTOR_BYTES 16
constexpr int REGISTERS = 32;
#else
#define VECTOR_BYTES 16
constexpr int REGISTERS = 16;
#endif

constexpr int LANES = VECTOR_BYTES / sizeof(Real);
typedef Real Reals __attribute__((vector_size(VECTOR_BYTES)));
typedef Real RealsAnywhere __attribute__((vector_size(VECTOR_BYTES), aligned(sizeof(Real)), may_alias));
typedef double Doubles __attribute__((vector_size(VECTOR_BYTES / sizeof(Real) * sizeof(double))));
typedef Int Ints __attribute__((vector_size(VECTOR_BYTES / sizeof(Real) * sizeof(Int))));
typedef uint32_t Words __attribute__((vector_size(VECTOR_BYTES / sizeof(Real) * 4)));
using Bools = decltype(Ints() < Ints());
using RealBools = decltype(Reals() < Reals());

constexpr Real INFINITE = __builtin_huge_val(), NOT_A_NUMBER = __builtin_nan("");
constexpr Real LOG2E = 1.4426950408889634074, LN2 = 0.69314718055994530942;
constexpr Real LOWEST = sizeof(Real) == 4 ? -3.4028234663852886e38 : -1.7976931348623157e308;

INLINE Reals load(const Real *from) { return *reinterpret_cast<const RealsAnywhere *>(from); }
INLINE void store(Real *to, Reals x) { *reinterpret_cast<RealsAnywhere *>(to) = x; }

// ---- single values and vectors alike

template <class X> constexpr bool is_single = std::is_arithmetic_v<X>;

template <class X> INLINE auto each_lane(X x) {
    if constexpr (std::is_same_v<X, Real>) return x - Reals{};  // x - 0 is x, -0 included
    else if constexpr (std::is_floating_point_v<X>) return double(x) - Doubles{};
    else if constexpr (is_single<X>) return Int(x) - Ints{};
    else return x;
}
template <class X> INLINE Bools condition(X x) {
    if constexpr (is_single<X>) return Ints{} - Int(x);
    else return __builtin_convertvector(x, Bools);
}
template <class X> INLINE auto lane(X x, int index) {
    if constexpr (is_single<X>) return x;
    else return x[index];
}
// The outcome of a comparison, whatever was compared, as a condition.
template <class X> INLINE auto truth(X x) {
    if constexpr (is_single<X>) return bool(x);
    else return __builtin_convertvector(x, Bools);
}
INLINE RealBools of_reals(Bools x) { return __builtin_convertvector(x, RealBools); }

template <class A> INLINE auto negation(A a) {
    if constexpr (is_single<A>) return !a;
    else return ~a;
}
template <class A> INLINE A all(A a) { return a; }
template <class A, class B, class... Rest> INLINE auto all(A a, B b, Rest... rest) {
    if constexpr (is_single<A> && is_single<B>) return all(bool(a && b), rest...);
    else return all(Bools(condition(a) & condition(b)), rest...);
}
template <class A> INLINE A any(A a) { return a; }
template <class A, class B, class... Rest> INLINE auto any(A a, B b, Rest... rest) {
    if constexpr (is_single<A> && is_single<B>) return any(bool(a || b), rest...);
    else return any(Bools(condition(a) | condition(b)), rest...);
}
template <class A, class B> INLINE auto same(A a, B b) {
    if constexpr (is_single<A> && is_single<B>) return a == b;
    else return Bools(~(condition(a) ^ condition(b)));
}

template <class C, class A, class B> INLINE auto choose(C c, A a, B b) {
    if constexpr (is_single<C> && is_single<A> && is_single<B>) return c ? a : b;
    else {
        auto x = each_lane(a);
        auto y = each_lane(b);
        if constexpr (is_single<C>) return c ? x : y;
        else return __builtin_convertvector(c, decltype(x < y)) ? x : y;
    }
}
template <class C, class A, class B> INLINE auto choose_condition(C c, A a, B b) {
    if constexpr (is_single<C> && is_single<A> && is_single<B>) return c ? a : b;
    else return Bools((condition(c) & condition(a)) | (~condition(c) & condition(b)));
}
template <class A> INLINE A minimum(A a) { return a; }
template <class A, class B, class... Rest> INLINE auto minimum(A a, B b, Rest... rest) {
    return minimum(choose(truth(b < a), b, a), rest...);
}
template <class A> INLINE A maximum(A a) { return a; }
template <class A, class B, class... Rest> INLINE auto maximum(A a, B b, Rest... rest) {
    return maximum(choose(truth(a < b), b, a), rest...);
}
template <class A> INLINE auto magnitude(A a) { return choose(truth(a < 0), -a, a); }

// A condition as 0 or 1, an integer as a real.
template <class X> INLINE auto number(X x) {
    if constexpr (is_single<X>) return Int(x);
    else return -x;
}
template <class X> INLINE auto real(X x) {
    if constexpr (is_single<X>) return Real(x);
    else return __builtin_convertvector(x, Reals);
}

// Division and remainder round down, by a positive constant.
template <int64_t DIVISOR, class X> INLINE auto floor_divide(X x) {
    if constexpr ((DIVISOR & (DIVISOR - 1)) == 0) return x >> __builtin_ctzll(DIVISOR);
    else if constexpr (is_single<X>) return Int(x / Int(DIVISOR) - (x % Int(DIVISOR) < 0));
    else {
        X quotient = x / Int(DIVISOR);
        return X(quotient + (x - quotient * Int(DIVISOR) < 0));
    }
}
template <int64_t DIVISOR, class X> INLINE auto floor_remainder(X x) {
    if constexpr ((DIVISOR & (DIVISOR - 1)) == 0) return x & Int(DIVISOR - 1);
    else return x - floor_divide<DIVISOR>(x) * Int(DIVISOR);
}

// The same by a run-time number, which a call was refused for if it is not positive: by 1 then, not a trap.
template <class X> INLINE auto floor_divide(X x, Int divisor) {
    const Int by = divisor > 0 ? divisor : 1;
    if constexpr (is_single<X>) return Int(Int(x) / by - (Int(x) % by < 0));
    else {
        X quotient = x / by;
        return X(quotient + (x - quotient * by < 0));
    }
}
template <class X> INLINE auto floor_remainder(X x, Int divisor) {
    const Int by = divisor > 0 ? divisor : 1;
    if constexpr (is_single<X>) return Int(Int(x) - floor_divide(x, by) * by);
    else return X(x - floor_divide(x, by) * by);
}

// The language's hash: MurmurHash3's finalizer over each argument in turn.
INLINE uint32_t word(uint32_t x) { return x; }
INLINE uint32_t word(int32_t x) { return uint32_t(x); }
INLINE uint32_t word(int64_t x) { return uint32_t(uint64_t(x)); }
INLINE Words word(Ints x) { return __builtin_convertvector(x, Words); }
template <class H> INLINE H mixed(H h) {
    h ^= h >> 16;
    h *= 0x85EBCA6Bu;
    h ^= h >> 13;
    h *= 0xC2B2AE35u;
    return h ^ (h >> 16);
}
template <class H> INLINE H hash_more(H h) { return h; }
template <class H, class X, class... Rest> INLINE auto hash_more(H h, X x, Rest... rest) {
    return hash_more(mixed(h ^ word(x)), rest...);
}
template <class H> INLINE auto hash_result(H h) {
    if constexpr (is_single<H>) return Int(h >> 1);
    else return __builtin_convertvector(h >> 1, Ints);
}
template <class... X> INLINE auto hashed(X... x) { return hash_result(hash_more(0x9E3779B9u, x...)); }

// ---- functions of reals

INLINE Reals larger(Reals a, Reals b) { return a > b ? a : b; }
INLINE Reals at_least(Reals x, Real low) { Reals y = each_lane(low); return y > x ? y : x; }    // keeps a NaN of x
INLINE Reals at_most(Reals x, Real high) { Reals y = each_lane(high); return y < x ? y : x; }   // keeps a NaN of x

// The C library's functions, for single values and for double. <cmath> would take longer to read than all else here.
#define LIBRARY(name) \
    INLINE Real library_##name(Real x) { \
        return sizeof(Real) == 4 ? Real(__builtin_##name##f(x)) : Real(__builtin_##name(x)); \
    }
LIBRARY(exp)
LIBRARY(exp2)
LIBRARY(log)
LIBRARY(tanh)
LIBRARY(sqrt)
#undef LIBRARY

template <class F> INLINE Reals lane_by_lane(Reals x, F function) {
    for (int i = 0; i < LANES; i++) x[i] = function(x[i]);
    return x;
}

// 2^f for |f| <= 1/2, then times 2^n by adding n to the exponent; `shifted` is n plus the magic number that rounds.
// In single precision, of all polynomials of six terms that are 1 at 0, the one whose largest relative error is least:
// 9.1e-8 before rounding. Taylor's, as long, is 2.4e-6 off at the ends.
INLINE Reals scaled_power(Reals f, Reals shifted) {
    if constexpr (sizeof(Real) == 4) {
        Reals p = f * Real(1.3264727e-3) + Real(9.6715130e-3);
        p = p * f + Real(5.5507336e-2);
        p = p * f + Real(2.4022242e-1);
        p = p * f + Real(6.9314700e-1);
        p = p * f + Real(1);
        return (Reals)((RealBools)p + ((RealBools)shifted << 23));
    } else {
        constexpr double c[] = {2.5678435993488196e-11, 4.44553827187081e-10, 7.054911620801121e-09,
                                1.0178086009239696e-07, 1.3215486790144305e-06, 1.5252733804059838e-05,
                                0.00015403530393381606, 0.0013333558146428441, 0.009618129107628477,
                                0.055504108664821576, 0.2402265069591007, 0.6931471805599453};
        Reals p = each_lane(Real(c[0]));
        for (int i = 1; i < 12; i++) p = p * f + Real(c[i]);
        p = p * f + Real(1);
        return (Reals)((RealBools)p + ((RealBools)shifted << 52));
    }
}
constexpr Real ROUNDER = sizeof(Real) == 4 ? 12582912.0 : 6755399441055744.0;  // 1.5 * 2^23, 1.5 * 2^52
constexpr Real LEAST_EXPONENT = sizeof(Real) == 4 ? -127 : -1023;

// 2^x. Exactly 0 from LEAST_EXPONENT down, -inf included; inf from the largest exponent up; a NaN stays.
INLINE Reals power_of_two(Reals x) {
    x = at_most(at_least(x, LEAST_EXPONENT), 1 - LEAST_EXPONENT);
    Reals shifted = x + ROUNDER;
    // What a NaN carries in its lowest bits would be shifted into its exponent, and make a number of it.
    return (Reals)((RealBools)scaled_power(x - (shifted - ROUNDER), shifted) | (RealBools)(x != x));
}
INLINE Real power_of_two(Real x) { return library_exp2(x); }

INLINE Real exponential(Real x) { return library_exp(x); }
INLINE Reals exponential(Reals x) {
    if constexpr (sizeof(Real) == 8) return lane_by_lane(x, library_exp);
    Reals inside = at_most(at_least(x, LEAST_EXPONENT * LN2), -LEAST_EXPONENT * LN2);
    Reals shifted = inside * LOG2E + ROUNDER, n = shifted - ROUNDER;
    Reals rest = (inside - n * Real(0.693359375)) - n * Real(-2.12194440e-4);
    Reals power = scaled_power(rest * LOG2E, shifted);
    // At either end the exponent has no room for what the fraction adds to it.
    power = x < (LEAST_EXPONENT + Real(0.5)) * LN2 ? Reals{} : x != x ? x : power;
    return x > -LEAST_EXPONENT * LN2 ? each_lane(INFINITE) : power;
}

INLINE Real logarithm(Real x) { return library_log(x); }
INLINE Reals logarithm(Reals x) {
    if constexpr (sizeof(Real) == 8) return lane_by_lane(x, library_log);
    else {
        RealBools tiny = x < Real(1.17549435e-38);
        Reals y = tiny ? x * Real(8388608) : x;
        RealBools bits = (RealBools)y;
        Reals e = __builtin_convertvector(((bits >> 23) & 255) - 126, Reals) - (tiny ? each_lane(Real(23)) : Reals{});
        Reals f = (Reals)((bits & 0x7fffff) | 0x3f000000);
        RealBools low = f < Real(0.70710678);
        e = low ? e - Real(1) : e;
        f = (low ? f + f : f) - Real(1);
        constexpr float c[] = {7.0376836292e-2f,  -1.1514610310e-1f, 1.1676998740e-1f,  -1.2420140846e-1f, 1.4249322787e-1f,
                               -1.6668057665e-1f, 2.0000714765e-1f,  -2.4999993993e-1f, 3.3333331174e-1f};
        Reals p = each_lane(Real(c[0]));
        for (int i = 1; i < 9; i++) p = p * f + Real(c[i]);
        Reals square = f * f;
        Reals result = f + (p * f * square - e * Real(2.12194440e-4) - square * Real(0.5)) + e * Real(0.693359375);
        result = x == Real(0) ? each_lane(Real(-INFINITE)) : result;
        result = x == INFINITE ? x : result;
        return x >= Real(0) ? result : each_lane(NOT_A_NUMBER);
    }
}

INLINE Real tangent(Real x) { return library_tanh(x); }
INLINE Reals tangent(Reals x) {
    if constexpr (sizeof(Real) == 8) return lane_by_lane(x, library_tanh);
    Reals size = x < 0 ? -x : x, square = x * x;
    Reals p = square * Real(-5.70498872745e-3) + Real(2.06390887954e-2);
    p = p * square - Real(5.37397155531e-2);
    p = p * square + Real(1.33314422036e-1);
    p = p * square - Real(3.33332819422e-1);
    Reals far = Real(1) - Real(2) / (exponential(size + size) + Real(1));
    return size < Real(0.625) ? x + x * square * p : (x < 0 ? -far : far);
}

INLINE Real square_root(Real x) { return library_sqrt(x); }
INLINE Reals square_root(Reals x) {
    return lane_by_lane(x, library_sqrt);
}
template <class X> INLINE X sigmoid(X x) { return Real(1) / (exponential(-x) + Real(1)); }

// ---- over lanes

template <class Condition> INLINE bool any_lane(Condition x) {
    uint64_t words[sizeof x / 8], found = 0;
    std::memcpy(words, &x, sizeof x);
    for (uint64_t word : words) found |= word;
    return found != 0;
}
// Two by two, so that few sums wait for one another.
INLINE Real over_lanes(Reals x) {
    Real held[LANES];
    std::memcpy(held, &x, sizeof x);
    for (int width = LANES / 2; width > 0; width /= 2)
        for (int i = 0; i < width; i++) held[i] += held[i + width];
    return held[0];
}
