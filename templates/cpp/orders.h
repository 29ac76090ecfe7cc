// The orders in which a kernel walks its rows and its keys, tile by tile, and which tiles of the two meet.
#pragma once

struct Axis {
    int64_t stride, length, tile;  // length 0: as many coordinates as the tokens need
};
struct Order {
    const Axis *axes;  // null: the launch lists the tokens
    int count;
    int64_t offset;
    int tile;  // lanes
};
struct TileCount {
    int64_t classes, per_class;
    int64_t total() const { return classes * per_class; }
};
constexpr int MOST_AXES = 16;

// One tile, of rows or of keys, as one head of one batch entry has it; the head by its place among the kernel's.
struct Unit {
    int64_t batch, place, tile;
};

// The slot of bounds or of a listing.
template <class Slots> INLINE int64_t slot_of(const Slots &slots, const Unit &unit) {
    const int64_t batch = slots.batch_slots > 1 ? unit.batch : 0, place = slots.head_slots > 1 ? unit.place : 0;
    return batch * slots.head_slots + place;
}

// Tiles along the one axis without a length.
INLINE int64_t main_tiles(const Order &order, const Axis &main, int64_t tokens) {
    return tokens > order.offset ? tiles(tokens - order.offset, main.stride * main.tile) : 0;
}

static TileCount tile_count(const Order &order, const Listing &listing, int64_t tokens) {
    if (!order.axes) return {1, tiles(listing.length, order.tile)};
    TileCount found{1, 1};
    const Axis *axis = order.axes;
    for (; axis->length; axis++) found.classes *= tiles(axis->length, axis->tile);
    found.per_class = main_tiles(order, *axis, tokens);
    for (axis++; axis < order.axes + order.count; axis++) found.per_class *= tiles(axis->length, axis->tile);
    return found;
}

static int tokens_listed(const int32_t *from, int64_t count, Int *to) {
    int found = 0;
    for (; found < count && from[found] >= 0; found++) to[found] = Int(from[found]);
    return found;
}

INLINE int tokens_along(int64_t first, int64_t stride, int most, int64_t tokens, Int *to) {
    const int count = first < tokens ? int(least<int64_t>(most, tiles(tokens - first, stride))) : 0;
    for (int i = 0; i < count; i++) to[i] = Int(first) + Int(i) * Int(stride);
    return count;
}

static int tokens_of_axes(const Order &order, int64_t tile, int64_t tokens, Int *to) {
    int64_t coordinate[MOST_AXES], first = order.offset;
    for (int a = order.count - 1; a >= 0; a--) {
        const Axis &axis = order.axes[a];
        const int64_t along = axis.length ? tiles(axis.length, axis.tile) : main_tiles(order, axis, tokens);
        coordinate[a] = tile % along * axis.tile;
        tile /= along;
        first += coordinate[a] * axis.stride;
    }
    if (first >= tokens) return 0;
    int count = 1;
    to[0] = Int(first);
    for (int a = 0; a < order.count; a++) {
        const Axis &axis = order.axes[a];
        const int64_t left = axis.length ? axis.length - coordinate[a] : tiles(tokens - first, axis.stride);
        const int present = int(least(axis.tile, left));
        for (int e = count - 1; e >= 0; e--) {
            const Int from = to[e];
            for (int i = present - 1; i >= 0; i--) to[e * present + i] = from + Int(i) * Int(axis.stride);
        }
        count *= present;
    }
    int found = 0;
    for (int i = 0; i < count; i++)
        if (to[i] < tokens) to[found++] = to[i];
    return found;
}

// Writes the tokens of one tile to `to`, in the order of its lanes, and leaves out lanes that hold none; how many.
static int tokens_of(const Order &order, const Listing &listing, const Unit &unit, int64_t tokens, Int *to) {
    const int64_t first = unit.tile * order.tile;
    if (!order.axes) {
        const int32_t *listed = listing.tokens + slot_of(listing, unit) * listing.length + first;
        return tokens_listed(listed, least<int64_t>(order.tile, listing.length - first), to);
    }
    if (order.count > 1) return tokens_of_axes(order, unit.tile, tokens, to);
    const int64_t stride = order.axes->stride;
    return tokens_along(order.offset + first * stride, stride, order.tile, tokens, to);
}

// Calls `visit(tile of keys, whether it is full)` for each that a tile of rows meets, run by run.
template <class Visit>
INLINE void visits(const Bounds &bounds, const Unit &unit, TileCount rows, TileCount keys, Visit visit) {
    int64_t along = unit.tile, limit = keys.total(), base = 0;
    if (bounds.aligned) {
        base = unit.tile / rows.per_class * keys.per_class;
        along = unit.tile % rows.per_class, limit = keys.per_class;
    }
    const int64_t row = slot_of(bounds, unit) * bounds.period + along % bounds.period;
    const int64_t move = along / bounds.period * bounds.shift;
    for (int64_t run = bounds.pointer[row]; run < bounds.pointer[row + 1]; run++) {
        const int64_t start = bounds.start[run] + move, end = least(start + bounds.length[run], limit);
        for (int64_t t = start > 0 ? start : 0; t < end; t++) visit(base + t, bounds.kind[run] == FULL);
    }
}

// One kernel of a call: its orders, and how many tiles they have.
template <int SEGMENTS> struct Walk {
    const Launch &launch;
    const KernelArgument &argument;
    const Order &rows, *keys;
    int64_t heads;
    TileCount row_tiles, key_tiles[SEGMENTS ? SEGMENTS : 1];

    Walk(const Launch &launch, const KernelArgument &argument, const Order &rows, const Order *keys)
        : launch(launch), argument(argument), rows(rows), keys(keys) {
        heads = argument.heads ? argument.head_count : launch.heads;
        row_tiles = tile_count(rows, argument.rows, launch.m);
        for (int s = 0; s < SEGMENTS; s++) key_tiles[s] = tile_count(keys[s], argument.segments[s].keys, launch.n);
    }
    int64_t head(const Unit &unit) const { return argument.heads ? argument.heads[unit.place] : unit.place; }
    int64_t units() const { return launch.batch * heads * row_tiles.total(); }
    Unit unit(int64_t number) const {
        const int64_t head = number / row_tiles.total();
        return {head / heads, head % heads, number % row_tiles.total()};
    }
    int64_t all_key_tiles() const {
        int64_t sum = 0;
        for (int s = 0; s < SEGMENTS; s++) sum += key_tiles[s].total();
        return sum;
    }
    int row_tokens(const Unit &unit, Int *to) const { return tokens_of(rows, argument.rows, unit, launch.m, to); }
    int key_tokens(int segment, const Unit &unit, Int *to) const {
        return tokens_of(keys[segment], argument.segments[segment].keys, unit, launch.n, to);
    }
    template <class Visit> INLINE_MEMBER void visit(int segment, const Unit &unit, Visit visit) const {
        visits(argument.segments[segment].bounds, unit, row_tiles, key_tiles[segment], visit);
    }
    int64_t visit_count(const Unit &unit) const {
        int64_t count = 0;
        for (int s = 0; s < SEGMENTS; s++) visit(s, unit, [&](int64_t, bool) { count++; });
        return count;
    }

    // Into how many shares the visits of each tile of rows are split where there are too few tiles to go round. How
    // sums round depends on it, so it depends on sizes and bounds only, never on threads.
    int64_t shares() const {
        constexpr int64_t ENOUGH = 128, LEAST_VISITS = 16;
        const int64_t here = units();
        if (!here || here >= ENOUGH || all_key_tiles() < 2 * LEAST_VISITS) return 1;
        int64_t most = 1;
        for (int64_t number = 0; number < here; number++) {
            const int64_t count = visit_count(unit(number));
            if (count > most) most = count;
        }
        return least(tiles(ENOUGH, here), tiles(most, LEAST_VISITS));
    }
};

// Some of a tile's visits, by their numbers; all segments count on.
struct Share {
    int64_t from = 0, to = INT64_MAX, next = 0;
    Share() = default;
    Share(int64_t number, int64_t shares, int64_t visits)
        : from(number * visits / shares), to((number + 1) * visits / shares) {}
    bool take() {
        const int64_t number = next++;
        return number >= from && number < to;
    }
};
