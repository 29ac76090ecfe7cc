// Products of few rows with rows of keys and values, whose features lie side by side: a lane for each feature, not for
// each query. Each row of a cache is read once, where it lies.
#pragma once
#include <utility>

// Lane i of what a step of a sum over lanes reads, of the vectors a and c side by side: blocks of B lanes from a and c in
// turn, each the first (or the second) of two.
template <int B> constexpr int lane_read(int i, bool second) {
    const int within = i % (2 * B), group = i - within;
    return (within < B ? within : LANES + within - B) + group + (second ? B : 0);
}

template <int B, int... I> INLINE Reals sum_of_blocks(Reals a, Reals c, std::integer_sequence<int, I...>) {
#if defined(__has_builtin) && __has_builtin(__builtin_shufflevector)
    return __builtin_shufflevector(a, c, lane_read<B>(I, false)...) +
           __builtin_shufflevector(a, c, lane_read<B>(I, true)...);
#else
    Reals first, second;
    ((first[I] = lane_read<B>(I, false) < LANES ? a[lane_read<B>(I, false)] : c[lane_read<B>(I, false) - LANES]), ...);
    ((second[I] = lane_read<B>(I, true) < LANES ? a[lane_read<B>(I, true)] : c[lane_read<B>(I, true) - LANES]), ...);
    return first + second;
#endif
}

// The sum over the lanes of each of LANES vectors, side by side.
template <int B = 1> INLINE Reals sums_over_lanes(const Reals *x) {
    if constexpr (B == LANES) return x[0];
    else {
        Reals half[LANES / B / 2];
        UNROLL for (int i = 0; i < LANES / B / 2; i++)
            half[i] = sum_of_blocks<B>(x[2 * i], x[2 * i + 1], std::make_integer_sequence<int, LANES>());
        return sums_over_lanes<2 * B>(half);
    }
}

// result[i] = keys[i] . query for i < count, and as much again of the last up to whole vectors.
template <int DEPTH>
static void products_across(const Real *query, const Real *keys, int64_t pitch, int count, Real *result) {
    constexpr int WHOLE = DEPTH / LANES * LANES;
    for (int first = 0; first < count; first += LANES) {
        Reals sum[LANES];
        UNROLL for (int i = 0; i < LANES; i++) {
            const Real *key = keys + least(first + i, count - 1) * pitch;
            sum[i] = Reals{};
#pragma GCC unroll 8
            for (int d = 0; d < WHOLE; d += LANES) sum[i] += load(key + d) * load(query + d);
        }
        Reals total = sums_over_lanes(sum);
        if constexpr (WHOLE < DEPTH)
            for (int i = 0; i < LANES; i++) {
                const Real *key = keys + least(first + i, count - 1) * pitch;
                Real rest = 0;
                for (int d = WHOLE; d < DEPTH; d++) rest += key[d] * query[d];
                total[i] += rest;
            }
        store(result + first, total);
    }
}

template <int COLUMNS, bool SOME>
INLINE void accumulate_columns(const Real *weight, const Real *rows, int64_t pitch, int count, Real factor, Real *sum) {
    Reals added[2][COLUMNS] = {};  // of even and of odd rows: sums that do not wait for each other
    for (int c = 0; c < count; c++) {
        if (SOME && weight[c] == 0) continue;
        UNROLL for (int x = 0; x < COLUMNS; x++) added[c % 2][x] += load(rows + c * pitch + x * LANES) * weight[c];
    }
    UNROLL for (int x = 0; x < COLUMNS; x++)
        store(sum + x * LANES, load(sum + x * LANES) * factor + (added[0][x] + added[1][x]));
}

// sum[d] = sum[d] * factor + the weighted sum of rows, each of DEPTH features. SOME: rows of weight 0 are not read, for
// they may hold inf or NaN.
template <int DEPTH, bool SOME>
static void accumulate_across(const Real *weight, const Real *rows, int64_t pitch, int count, Real factor, Real *sum) {
    constexpr int WHOLE = DEPTH / LANES * LANES, WIDTH = 4 * LANES;
    int d = 0;
    for (; d + WIDTH <= WHOLE; d += WIDTH)
        accumulate_columns<4, SOME>(weight, rows + d, pitch, count, factor, sum + d);
    for (; d < WHOLE; d += LANES) accumulate_columns<1, SOME>(weight, rows + d, pitch, count, factor, sum + d);
    for (; d < DEPTH; d++) {
        Real more = 0;
        for (int c = 0; c < count; c++)
            if (!SOME || weight[c] != 0) more += rows[c * pitch + d] * weight[c];
        sum[d] = sum[d] * factor + more;
    }
}

// Two by two, so that few comparisons wait for one another.
INLINE Real largest_lane(Reals x) {
    Real held[LANES];
    store(held, x);
    UNROLL for (int width = LANES / 2; width > 0; width /= 2)
        for (int i = 0; i < width; i++) held[i] = held[i] > held[i + width] ? held[i] : held[i + width];
    return held[0];
}
