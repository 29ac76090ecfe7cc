// Run-time tables. An index outside the table reads 0 or false, and nothing outside a table is touched.
#pragma once

template <class Element> struct Table {
    const Element *data;   // of one batch entry
    const int64_t *sizes;  // of its dimensions
};

// The place of an entry, or -1 outside the table.
template <class... Index> INLINE int64_t place(const int64_t *sizes, Index... index) {
    uint64_t at = 0;
    bool inside = true;
    int dimension = 0;
    ((inside &= uint64_t(int64_t(index)) < uint64_t(sizes[dimension]),
      at = at * uint64_t(sizes[dimension++]) + uint64_t(int64_t(index))),
     ...);
    (void)dimension, (void)sizes;
    return inside ? int64_t(at) : -1;
}

template <class Element> INLINE auto element(Element x) {
    if constexpr (std::is_floating_point_v<Element>) return x;  // in the dtype of sums, or in a wider one
    else if constexpr (sizeof(Element) == 1) return x != 0;
    else return Int(x);
}

template <class Element, class... Index> INLINE auto entry(Table<Element> table, Index... index) {
    if constexpr ((is_single<Index> && ...)) {
        int64_t at = place(table.sizes, index...);
        return at < 0 ? element(Element(0)) : element(table.data[at]);
    } else {
        using Floats = std::conditional_t<std::is_same_v<Element, Real>, Reals, Doubles>;
        std::conditional_t<std::is_floating_point_v<Element>, Floats, Ints> found{};
        for (int i = 0; i < LANES; i++) {
            int64_t at = place(table.sizes, lane(index, i)...);
            if (at >= 0) found[i] = element(table.data[at]);
        }
        if constexpr (sizeof(Element) == 1) return Bools(found != 0);
        else return found;
    }
}

// Whether rising members, at least one, hold x: the last of `size` that is no greater lies at `set` or behind it.
template <class Element> static bool holds(const Element *set, int64_t size, int64_t x) {
    while (size > 1) {
        const int64_t half = size / 2;
        set += int64_t(set[half]) <= x ? half : 0;
        size -= half;
    }
    return int64_t(*set) == x && x >= 0;
}

// Whether x is in a set: a bitmap, whose last dimension is the universe, or rising members, whose last is their slots.
template <class Element, class X, class... Index> INLINE auto member(Table<Element> table, X x, Index... index) {
    if constexpr (sizeof(Element) == 1) return entry(table, index..., x);
    else {
        const int64_t slots = table.sizes[sizeof...(Index)];
        auto held = [&](int64_t at, int64_t wanted) { return at >= 0 && holds(table.data + at * slots, slots, wanted); };
        if constexpr (is_single<X> && (is_single<Index> && ...)) return held(place(table.sizes, index...), x);
        else {
            Ints found{};
            for (int i = 0; i < LANES; i++) found[i] = held(place(table.sizes, lane(index, i)...), lane(x, i));
            return Bools(found != 0);
        }
    }
}

// Calls `visit(x)` for each member of a set, in rising order.
template <class Element, class Visit, class... Index>
INLINE void each_member(Table<Element> table, Visit visit, Index... index) {
    const int64_t size = table.sizes[sizeof...(Index)], at = place(table.sizes, index...);
    if (at < 0) return;
    const Element *const set = table.data + at * size;
    if constexpr (sizeof(Element) == 1) {
        int64_t x = 0;
        for (; x + 8 <= size; x += 8) {
            uint64_t some;
            std::memcpy(&some, set + x, sizeof some);
            for (int i = 0; some && i < 8; i++)
                if (set[x + i]) visit(x + i);
        }
        for (; x < size; x++)
            if (set[x]) visit(x);
    } else {
        int64_t before = -1;
        for (int64_t i = 0; i < size; before = int64_t(set[i++]))
            if (int64_t(set[i]) > before) visit(int64_t(set[i]));
    }
}

// Where the gradient of a table's entries is summed: the whole of one batch entry, or the slice from `base` on.
struct Sums {
    Real *data;
    int64_t base;
    const int64_t *sizes;
};

template <class... Index> INLINE void add_to_entry(const Sums &sums, Reals x, Index... index) {
    if constexpr ((is_single<Index> && ...)) {
        int64_t at = place(sums.sizes, index...);
        if (at >= 0) sums.data[at - sums.base] += over_lanes(x);
    } else {
        for (int i = 0; i < LANES; i++) {
            int64_t at = place(sums.sizes, lane(index, i)...);
            if (at >= 0) sums.data[at - sums.base] += x[i];
        }
    }
}
