// What tensors hold, to reals and back: float and double as they are, the 16-bit formats through their bits.
#pragma once
#include <cstdint>
#include <cstring>

struct Half {  // IEEE binary16
    uint16_t bits;
};
struct BrainFloat {  // the upper half of a binary32
    uint16_t bits;
};

INLINE float from_bits(uint32_t bits) {
    float x;
    std::memcpy(&x, &bits, 4);
    return x;
}
INLINE uint32_t to_bits(float x) {
    uint32_t bits;
    std::memcpy(&bits, &x, 4);
    return bits;
}

INLINE float to_real(float x) { return x; }
INLINE double to_real(double x) { return x; }
INLINE float to_real(BrainFloat x) { return from_bits(uint32_t(x.bits) << 16); }
INLINE float to_real(Half x) {
    uint32_t size = uint32_t(x.bits & 0x7fff) << 13, sign = uint32_t(x.bits & 0x8000) << 16;
    uint32_t special = size >= 0x0f800000 ? 0x7f800000 | size : 0;  // inf and NaN keep their digits
    uint32_t usual = to_bits(from_bits(size) * 0x1p112f);           // rebias; subnormal numbers too
    return from_bits(sign | (special ? special : usual));
}

INLINE void put(float *to, float x) { *to = x; }
INLINE void put(double *to, double x) { *to = x; }
INLINE void put(BrainFloat *to, float x) {  // round to nearest, ties to even
    uint32_t bits = to_bits(x);
    to->bits = x != x ? 0x7fc0 : (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
}
INLINE void put(Half *to, float x) {  // round to nearest, ties to even
    uint32_t bits = to_bits(x), sign = (bits >> 16) & 0x8000, size = bits & 0x7fffffff;
    uint32_t half;
    if (size > 0x7f800000) half = 0x7e00;
    else if (size >= 0x477ff000) half = 0x7c00;                                           // rounds past the largest
    else if (size < 0x38800000) half = to_bits(from_bits(size) + 0.5f) - to_bits(0.5f);   // subnormal: let the sum round
    else half = (size - 0x38000000 + 0xfff + ((size >> 13) & 1)) >> 13;
    to->bits = uint16_t(sign | half);
}

// The same value, of which a compiler knows nothing: it cannot make one operation of what comes before and after.
template <class X> INLINE X kept_apart(X x) {
#if defined(__x86_64__)
    if constexpr (sizeof(X) <= VECTOR_BYTES) __asm__("" : "+x"(x));
    else __asm__("" : "+m"(x));
#elif defined(__aarch64__)
    if constexpr (sizeof(X) <= VECTOR_BYTES) __asm__("" : "+w"(x));
    else __asm__("" : "+m"(x));
#else
    __asm__("" : "+m"(x));
#endif
    return x;
}
// A sum or a product rounded to a narrower format, or to its own; never contracted into what is made of it.
template <class Format, class X> INLINE X rounded(X x) {
    x = kept_apart(x);
    if constexpr (std::is_arithmetic_v<X>) {
        if constexpr (std::is_same_v<Format, double>) return x;
        else if constexpr (std::is_same_v<Format, float>) return X(float(x));
        else {
            Format held;
            put(&held, float(x));
            return X(to_real(held));
        }
    } else if constexpr (std::is_same_v<Format, double> || (std::is_same_v<Format, float> && sizeof(x[0]) == 4)) {
        return x;
    } else if constexpr (std::is_same_v<Format, float>) {
        // The whole vector at once: GCC 12 takes lanes that are narrowed and widened one by one for what they were.
        typedef float Singles __attribute__((vector_size(sizeof(X) / 2)));
        const Singles narrow = __builtin_convertvector(x, Singles);
        return __builtin_convertvector(narrow, X);
    } else {
        for (unsigned i = 0; i < sizeof(X) / sizeof(x[0]); i++) {
            auto one = x[i];
            x[i] = rounded<Format>(one);
        }
        return x;
    }
}
