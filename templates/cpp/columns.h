// Rows of tensors as vectors, and as columns of panels: LANES rows by LANES features change places at a time.
#pragma once
#include <utility>

#define UNROLL_LANES _Pragma("GCC unroll 16")

typedef uint16_t Halves __attribute__((vector_size(VECTOR_BYTES / sizeof(Real) * 2)));

// LANES entries of 16 bits as floats, and floats as such entries: as `to_real` and `put` do it.
template <class Storage, class Floats> INLINE Floats widened(Words x, Floats) {
    if constexpr (std::is_same_v<Storage, BrainFloat>) return (Floats)(x << 16);
    else {
        const Words size = (x & 0x7fff) << 13, sign = (x & 0x8000) << 16;
        const Words usual = (Words)((Floats)size * 0x1p112f);
        return (Floats)(sign | (size >= 0x0f800000 ? 0x7f800000 | size : usual));
    }
}
template <class Result, class Floats> INLINE Words narrowed(Floats x) {
    const Words bits = (Words)x, sign = (bits >> 16) & 0x8000, size = bits & 0x7fffffff;
    if constexpr (std::is_same_v<Result, BrainFloat>)
        return size > 0x7f800000 ? Words{} + 0x7fc0 : (bits + ((bits >> 16) & 1) + 0x7fff) >> 16;
    else {
        const Words small = (Words)((Floats)size + 0.5f) - (Words)(Floats{} + 0.5f);
        const Words usual = (size - 0x38000000 + 0xfff + ((size >> 13) & 1)) >> 13;
        const Words found = size < 0x38800000 ? small : size >= 0x477ff000 ? Words{} + 0x7c00 : usual;
        return sign | (size > 0x7f800000 ? Words{} + 0x7e00 : found);
    }
}

// LANES entries of a row as reals, and reals as such entries.
template <class Storage> INLINE Reals load_row(const Storage *from) {
    if constexpr (std::is_same_v<Storage, Real>) return load(from);
    else {
        Halves bits;
        std::memcpy(&bits, from, sizeof bits);
        return widened<Storage>(__builtin_convertvector(bits, Words), Reals{});
    }
}
template <class Result> INLINE void store_row(Result *to, Reals x) {
    if constexpr (std::is_same_v<Result, Real>) store(to, x);
    else {
        const Halves bits = __builtin_convertvector(narrowed<Result>(x), Halves);
        std::memcpy(to, &bits, sizeof bits);
    }
}

// Lane i of what one step of a transposition reads of rows a and c, B apart: the upper or the lower of the two.
template <int B> constexpr int turned_lane(int i, bool lower) {
    return (i & B ? LANES + i - B : i) + (lower ? B : 0);
}
template <int B, int... I> INLINE void turn_pair(Reals &a, Reals &c, std::integer_sequence<int, I...>) {
#if defined(__has_builtin) && __has_builtin(__builtin_shufflevector)
    const Reals upper = __builtin_shufflevector(a, c, turned_lane<B>(I, false)...);
    c = __builtin_shufflevector(a, c, turned_lane<B>(I, true)...);
#else
    Reals upper, below;
    ((upper[I] = I & B ? c[I - B] : a[I], below[I] = I & B ? c[I] : a[I + B]), ...);
    c = below;
#endif
    a = upper;
}
// Makes columns of the lanes of LANES vectors.
template <int B = LANES / 2> INLINE void turn(Reals (&x)[LANES]) {
    UNROLL_LANES for (int i = 0; i < LANES; i++)
        if (!(i & B)) turn_pair<B>(x[i], x[i + B], std::make_integer_sequence<int, LANES>());
    if constexpr (B > 1) turn<B / 2>(x);
}

// A row of zeros.
template <int DEPTH, class Storage> constexpr Storage NO_ROW[DEPTH] = {};

// Writes rows as columns, times a factor: feature d of row i to columns[d * pitch + i].
template <int DEPTH, class Storage>
static void write_columns(const Storage *const (&rows)[LANES], Real factor, Real *columns, int64_t pitch) {
    constexpr int WHOLE = DEPTH / LANES * LANES;
    for (int d = 0; d < WHOLE; d += LANES) {
        Reals x[LANES];
        UNROLL_LANES for (int i = 0; i < LANES; i++) x[i] = load_row(rows[i] + d) * factor;
        turn(x);
        UNROLL_LANES for (int i = 0; i < LANES; i++) store(columns + (d + i) * pitch, x[i]);
    }
    for (int d = WHOLE; d < DEPTH; d++)
        for (int i = 0; i < LANES; i++) columns[d * pitch + i] = to_real(rows[i][d]) * factor;
}

// Reads columns back as rows: `take(i, d, x)` gets the features of row i from d on, LANES of them or a single one.
// `change(x)` is applied to feature d of all rows before.
template <int DEPTH, class Change, class Take>
INLINE void read_columns(const Real *columns, int64_t pitch, int count, Change change, Take take) {
    constexpr int WHOLE = DEPTH / LANES * LANES;
    for (int d = 0; d < WHOLE; d += LANES) {
        Reals x[LANES];
        UNROLL_LANES for (int i = 0; i < LANES; i++) x[i] = change(load(columns + (d + i) * pitch));
        turn(x);
        for (int i = 0; i < count; i++) take(i, d, x[i]);
    }
    for (int d = WHOLE; d < DEPTH; d++) {
        const Reals x = change(load(columns + d * pitch));
        for (int i = 0; i < count; i++) take(i, d, x[i]);
    }
}

// A row as reals, times a factor.
template <int DEPTH, class Storage> INLINE void scale_row(const Storage *from, Real factor, Real *to) {
    constexpr int WHOLE = DEPTH / LANES * LANES;
    UNROLL for (int d = 0; d < WHOLE; d += LANES) store(to + d, load_row(from + d) * factor);
    for (int d = WHOLE; d < DEPTH; d++) to[d] = to_real(from[d]) * factor;
}

// The product of two rows. What the second one holds where the first is 0 does not count.
template <int DEPTH, class Storage> INLINE Real product_of_kept(const Storage *kept, const Real *row) {
    constexpr int WHOLE = DEPTH / LANES * LANES;
    Reals sum = {};
    UNROLL for (int d = 0; d < WHOLE; d += LANES) {
        const Reals x = load_row(kept + d);
        sum += x == Real(0) ? Reals{} : x * load(row + d);
    }
    Real rest = 0;
    for (int d = WHOLE; d < DEPTH; d++) {
        const Real x = to_real(kept[d]);
        rest += x == 0 ? Real(0) : x * row[d];
    }
    return WHOLE ? over_lanes(sum) + rest : rest;
}
