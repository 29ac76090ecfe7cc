// Products of one query with rows of keys and values that lie anywhere, each given by its number: a lane for each feature.
#pragma once

// LANES entries of a row, as reals.
template <class Storage> INLINE Reals reals_at(const Storage *from) {
    if constexpr (std::is_same_v<Storage, Real>) return load(from);
    else {
        Real held[LANES];
        for (int i = 0; i < LANES; i++) held[i] = to_real(from[i]);
        return load(held);
    }
}

// Some rows of a tensor of one head. `first`: the number of the row at `data`; `step`: entries from one to the next.
template <class Storage> struct Numbered {
    const Storage *data;
    int64_t first, step;
    INLINE_MEMBER const Storage *row(int64_t number) const { return data + (number - first) * step; }
    // Asks for a row that is read soon.
    template <int DEPTH> INLINE_MEMBER void expect(int64_t number) const {
        const char *const from = (const char *)row(number);
        for (int byte = 0; byte < DEPTH * int(sizeof(Storage)); byte += 64) __builtin_prefetch(from + byte);
    }
};

// result[i] = row number[i] . query for i < count, and as much again of the last up to whole vectors.
template <int DEPTH, class Storage, class Number>
static void products_of(const Real *query, Numbered<Storage> rows, const Number *number, int count, Real *result) {
    constexpr int WHOLE = DEPTH / LANES * LANES;
    for (int first = 0; first < count; first += LANES) {
        for (int i = first + LANES; i < least(first + 2 * LANES, count); i++) rows.template expect<DEPTH>(number[i]);
        Reals sum[LANES];
        UNROLL for (int i = 0; i < LANES; i++) {
            const Storage *const key = rows.row(number[least(first + i, count - 1)]);
            sum[i] = Reals{};
#pragma GCC unroll 8
            for (int d = 0; d < WHOLE; d += LANES) sum[i] += reals_at(key + d) * load(query + d);
        }
        Reals total = sums_over_lanes(sum);
        if constexpr (WHOLE < DEPTH)
            for (int i = 0; i < LANES; i++) {
                const Storage *const key = rows.row(number[least(first + i, count - 1)]);
                Real rest = 0;
                for (int d = WHOLE; d < DEPTH; d++) rest += to_real(key[d]) * query[d];
                total[i] += rest;
            }
        store(result + first, total);
    }
}

template <int COLUMNS, class Storage, class Number>
INLINE void add_columns(const Real *weight, Numbered<Storage> rows, const Number *number, int at, int count, Real factor,
                        Real *sum) {
    Reals even[COLUMNS] = {}, odd[COLUMNS] = {};  // sums that do not wait for each other
    int c = 0;
    for (; c + 2 <= count; c += 2) {
        const Storage *const first = rows.row(number[c]) + at, *const second = rows.row(number[c + 1]) + at;
        UNROLL for (int x = 0; x < COLUMNS; x++) {
            even[x] += reals_at(first + x * LANES) * weight[c];
            odd[x] += reals_at(second + x * LANES) * weight[c + 1];
        }
    }
    if (c < count) {
        const Storage *const last = rows.row(number[c]) + at;
        UNROLL for (int x = 0; x < COLUMNS; x++) even[x] += reals_at(last + x * LANES) * weight[c];
    }
    UNROLL for (int x = 0; x < COLUMNS; x++)
        store(sum + x * LANES, load(sum + x * LANES) * factor + (even[x] + odd[x]));
}

// sum[d] = sum[d] * factor + the weighted sum of the rows of these numbers.
template <int DEPTH, class Storage, class Number>
static void sum_of(const Real *weight, Numbered<Storage> rows, const Number *number, int count, Real factor, Real *sum) {
    constexpr int WHOLE = DEPTH / LANES * LANES, WIDTH = 4 * LANES;
    int d = 0;
    for (; d + WIDTH <= WHOLE; d += WIDTH) add_columns<4>(weight, rows, number, d, count, factor, sum + d);
    for (; d < WHOLE; d += LANES) add_columns<1>(weight, rows, number, d, count, factor, sum + d);
    for (; d < DEPTH; d++) {
        Real more = 0;
        for (int c = 0; c < count; c++) more += to_real(rows.row(number[c])[d]) * weight[c];
        sum[d] = sum[d] * factor + more;
    }
}

// sums[place[c]] += weight[c] * row: each of PITCH entries.
template <int PITCH>
static void add_to_places(Real *sums, const int32_t *place, const Real *weight, int count, const Real *row) {
    Reals held[PITCH / LANES];
    for (int x = 0; x < PITCH / LANES; x++) held[x] = load(row + x * LANES);
    for (int c = 0; c < count; c++) {
        Real *const to = sums + int64_t(place[c]) * PITCH;
        for (int x = 0; x < PITCH / LANES; x++) store(to + x * LANES, load(to + x * LANES) + held[x] * weight[c]);
    }
}
