// The matrix products, all by one register-blocked kernel. Queries lie side by side: VECTORS vectors make a panel.
#pragma once

#define UNROLL _Pragma("GCC unroll 8")

constexpr int VECTORS = 2;                                // of queries in a panel
constexpr int PANEL = VECTORS * LANES;                    // queries
constexpr int ROWS = REGISTERS == 32 ? 8 : 6;             // sums in registers: ROWS x VECTORS
constexpr int WIDE = REGISTERS == 32 ? 4 : 2;             // likewise for gradients of keys: 6 x WIDE
constexpr int padded(int size) { return (size + LANES - 1) / LANES * LANES; }

// sum[r][v] += a[r][i] * b[i][v] over i < count, where a[r][i] is at a + r * row + i * step.
template <int R, int V>
INLINE void multiply_add(Reals (&sum)[R][V], const Real *a, int64_t row, int64_t step, const Real *b, int64_t pitch,
                         int count) {
#pragma GCC unroll 2
    for (int i = 0; i < count; i++) {
        Reals right[V];
        UNROLL for (int v = 0; v < V; v++) right[v] = load(b + v * LANES);
        UNROLL for (int r = 0; r < R; r++) {
            Reals left = each_lane(a[r * row]);
            UNROLL for (int v = 0; v < V; v++) sum[r][v] += left * right[v];
        }
        a += step;
        b += pitch;
    }
}

template <int R, int V, int DEPTH>
INLINE void product_rows(const Real *rows, int64_t pitch, const Real *panel, Real *result, int64_t result_pitch) {
    Reals sum[R][V] = {};
    multiply_add<R, V>(sum, rows, pitch, 1, panel, PANEL, DEPTH);
    UNROLL for (int r = 0; r < R; r++)
        UNROLL for (int v = 0; v < V; v++) store(result + r * result_pitch + v * LANES, sum[r][v]);
}

// result[i] = rows[i] . panel: [count, DEPTH] times [DEPTH, PANEL], or V vectors of its queries
template <int DEPTH, int V = VECTORS>
static __attribute__((noinline)) void product(const Real *rows, int64_t pitch, int count, const Real *panel,
                                              Real *result, int64_t result_pitch) {
    int i = 0;
    for (; i + ROWS <= count; i += ROWS)
        product_rows<ROWS, V, DEPTH>(rows + i * pitch, pitch, panel, result + i * result_pitch, result_pitch);
    if constexpr (V == VECTORS)
        for (; i + 4 <= count; i += 4)
            product_rows<4, V, DEPTH>(rows + i * pitch, pitch, panel, result + i * result_pitch, result_pitch);
    for (; i < count; i++)
        product_rows<1, V, DEPTH>(rows + i * pitch, pitch, panel, result + i * result_pitch, result_pitch);
}

template <int R, int V>
INLINE void accumulate_rows(const Real *rows, int64_t pitch, int count, const Real *weights, int64_t weights_pitch,
                            const Reals *factor, Real *sums) {
    Reals sum[R][V] = {};
    multiply_add<R, V>(sum, rows, 1, pitch, weights, weights_pitch, count);
    UNROLL for (int r = 0; r < R; r++)
        UNROLL for (int v = 0; v < V; v++) {
            Real *const to = sums + r * PANEL + v * LANES;
            store(to, load(to) * factor[v] + sum[r][v]);
        }
}

// sums = sums * factor + transposed rows times weights: [DEPTH, count] times [count, PANEL], or V vectors of its queries
// What one tile adds is summed by itself first: thousands of keys, one after the other, would lose the last digit or two.
template <int DEPTH, int V = VECTORS>
static __attribute__((noinline)) void accumulate(const Real *rows, int64_t pitch, int count, const Real *weights,
                                                 int64_t weights_pitch, const Reals *factor, Real *sums) {
    int d = 0;
    for (; d + ROWS <= DEPTH; d += ROWS)
        accumulate_rows<ROWS, V>(rows + d, pitch, count, weights, weights_pitch, factor, sums + d * PANEL);
    if constexpr (DEPTH % ROWS != 0)
        accumulate_rows<DEPTH % ROWS, V>(rows + d, pitch, count, weights, weights_pitch, factor, sums + d * PANEL);
}

// The same where some row holds inf or NaN: it meets only those queries whose weight is not 0.
template <int DEPTH, int V = VECTORS>
static void accumulate_kept(const Real *rows, int64_t pitch, int count, const Real *weights, int64_t weights_pitch,
                            const Reals *factor, Real *sums) {
    for (int d = 0; d < DEPTH; d++)
        for (int x = 0; x < V * LANES; x++) {
            Real sum = 0;
            for (int i = 0; i < count; i++) {
                Real weight = weights[i * weights_pitch + x];
                if (weight != 0) sum += weight * rows[i * pitch + d];
            }
            Real &to = sums[d * PANEL + x];
            to = to * factor[x / LANES][x % LANES] + sum;
        }
}

// Whether no row holds inf or NaN: either, times 0, is NaN.
template <int DEPTH> static bool finite(const Real *rows, int64_t pitch, int count) {
    constexpr int WHOLE = DEPTH / LANES * LANES;
    Reals sum = {};
    Real rest = 0;
    for (int i = 0; i < count; i++) {
        Reals zero = {};
        UNROLL for (int d = 0; d < WHOLE; d += LANES) zero += load(rows + i * pitch + d) * Real(0);
        for (int d = WHOLE; d < DEPTH; d++) rest += rows[i * pitch + d] * 0;
        sum += zero;
    }
    return !any_lane(sum != Real(0)) && rest == 0;
}

template <int R, int V>
INLINE void add_block(Real *sums, int64_t pitch, const Real *weights, int64_t weights_pitch, const Real *rows,
                      int64_t rows_pitch, int count) {
    Reals sum[R][V] = {};
    multiply_add<R, V>(sum, weights, weights_pitch, 1, rows, rows_pitch, count);
    UNROLL for (int r = 0; r < R; r++)
        UNROLL for (int v = 0; v < V; v++) {
            Real *const to = sums + r * pitch + v * LANES;
            store(to, load(to) + sum[r][v]);
        }
}
template <int R, int PITCH>
INLINE void add_rows(Real *sums, const Real *weights, int64_t weights_pitch, const Real *rows, int count) {
    int d = 0;
    for (; d + WIDE * LANES <= PITCH; d += WIDE * LANES)
        add_block<R, WIDE>(sums + d, PITCH, weights, weights_pitch, rows + d, PITCH, count);
    for (; d < PITCH; d += LANES) add_block<R, 1>(sums + d, PITCH, weights, weights_pitch, rows + d, PITCH, count);
}

// sums += weights times rows: [keys, count] times [count, PITCH]
template <int PITCH>
static __attribute__((noinline)) void add_product(Real *sums, const Real *weights, int64_t weights_pitch, int keys,
                                                  const Real *rows, int count) {
    int i = 0;
    for (; i + 6 <= keys; i += 6)
        add_rows<6, PITCH>(sums + i * PITCH, weights + i * weights_pitch, weights_pitch, rows, count);
    for (; i + 2 <= keys; i += 2)
        add_rows<2, PITCH>(sums + i * PITCH, weights + i * weights_pitch, weights_pitch, rows, count);
    for (; i < keys; i++)
        add_rows<1, PITCH>(sums + i * PITCH, weights + i * weights_pitch, weights_pitch, rows, count);
}

// The same where some row holds inf or NaN: it meets only those keys whose weight is not 0.
template <int PITCH>
static void add_product_kept(Real *sums, const Real *weights, int64_t weights_pitch, int keys, const Real *rows,
                             int count) {
    for (int i = 0; i < keys; i++)
        for (int x = 0; x < count; x++) {
            Real weight = weights[i * weights_pitch + x];
            if (weight != 0)
                for (int d = 0; d < PITCH; d++) sums[i * PITCH + d] += weight * rows[x * PITCH + d];
        }
}
