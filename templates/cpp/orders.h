// The orders in which a kernel walks its rows and its keys, tile by tile, and which tiles of the two meet.
#pragma once

struct Axis {
    int64_t stride, length, tile;  // length 0: as many coordinates as the tokens need
    int64_t before, extent;        // coordinates of a box: so many in all, so many of them before the tile's
};
// Tile by tile, each a box of coordinates; or the boxes around tiles, which overlap, each in `parts` tiles.
struct Order {
    const Axis *axes;  // null: the launch lists the tokens
    int count;
    int64_t offset;
    int tile;             // lanes
    int64_t parts, lead;  // boxes begin `lead` tiles of the main axis early
};
struct TileCount {
    int64_t classes, per_class;
    int64_t total() const { return classes * per_class; }
};
constexpr int MOST_AXES = 16;

// Whether a token may be in several tiles.
INLINE bool overlap(const Order &order) {
    bool found = false;
    for (int a = 0; a < order.count; a++) found |= order.axes[a].extent != order.axes[a].tile;
    return found;
}

// Whether a tile's tokens are neighbours, in rising order.
INLINE bool side_by_side(const Order &order) { return order.count == 1 && order.axes->stride == 1; }

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
    if (tokens <= order.offset) return 0;
    return order.lead + tiles(tiles(tokens - order.offset, main.stride) + main.before, main.tile);
}

static TileCount tile_count(const Order &order, const Listing &listing, int64_t tokens) {
    if (!order.axes) return {1, tiles(listing.length, order.tile)};
    TileCount found{1, 1};
    const Axis *axis = order.axes;
    for (; axis->length; axis++) found.classes *= tiles(axis->length, axis->tile);
    found.per_class = main_tiles(order, *axis, tokens) * order.parts;
    for (axis++; axis < order.axes + order.count; axis++) found.per_class *= tiles(axis->length, axis->tile);
    return found;
}

static int tokens_listed(const int32_t *from, int64_t count, Int *to) {
    int found = 0;
    for (; found < count && from[found] >= 0; found++) to[found] = Int(from[found]);
    return found;
}

// Some lanes of a box, which go along its last axis first.
struct Lanes {
    int64_t first[MOST_AXES], place[MOST_AXES];  // the box's first coordinate, and where in the box they begin
    int64_t count;
};

static Lanes lanes_of(const Order &order, int64_t tile, int64_t tokens) {
    Lanes lanes;
    int64_t lane = tile % order.parts * order.tile, all = 1;
    tile /= order.parts;
    lanes.count = -lane;
    for (int a = order.count - 1; a >= 0; a--) {
        const Axis &axis = order.axes[a];
        const int64_t along = axis.length ? tiles(axis.length, axis.tile) : main_tiles(order, axis, tokens);
        const int64_t at = tile % along - (axis.length ? 0 : order.lead);
        lanes.first[a] = at * axis.tile - axis.before, lanes.place[a] = lane % axis.extent;
        tile /= along, lane /= axis.extent, all *= axis.extent;
    }
    lanes.count = least<int64_t>(lanes.count + all, order.tile);
    return lanes;
}

// The tokens at coordinates `from` to `to` of an axis, those that exist, where `first` is the token at 0.
INLINE int tokens_along(const Axis &axis, int64_t first, int64_t from, int64_t to, int64_t tokens, Int *found) {
    if (from < 0) from = 0;
    if (axis.length) to = least(to, axis.length);
    if (first + from * axis.stride >= tokens) return 0;
    to = least(to, axis.stride == 1 ? tokens - first : tiles(tokens - first, axis.stride));
    for (int64_t i = from; i < to; i++) found[i - from] = Int(first + i * axis.stride);
    return to > from ? int(to - from) : 0;
}

static int tokens_of_axes(const Order &order, int64_t tile, int64_t tokens, Int *to) {
    Lanes lanes = lanes_of(order, tile, tokens);
    const int last = order.count - 1;
    const Axis &line = order.axes[last];
    int found = 0;
    while (lanes.count > 0) {
        int64_t first = order.offset;
        bool here = true;
        for (int a = 0; a < last; a++) {
            const int64_t coordinate = lanes.first[a] + lanes.place[a];
            here &= coordinate >= 0 && (!order.axes[a].length || coordinate < order.axes[a].length);
            first += coordinate * order.axes[a].stride;
        }
        const int64_t from = lanes.first[last] + lanes.place[last];
        const int64_t count = least(lanes.count, line.extent - lanes.place[last]);
        if (here) found += tokens_along(line, first, from, from + count, tokens, to + found);
        lanes.count -= count, lanes.place[last] = 0;
        for (int a = last - 1; a >= 0 && ++lanes.place[a] == order.axes[a].extent; a--) lanes.place[a] = 0;
    }
    return found;
}

// Writes the tokens of one tile to `to`, in the order of its lanes, and leaves out lanes that hold none; how many.
static int tokens_of(const Order &order, const Listing &listing, const Unit &unit, int64_t tokens, Int *to) {
    if (order.axes) return tokens_of_axes(order, unit.tile, tokens, to);
    const int64_t first = unit.tile * order.tile;
    const int32_t *listed = listing.tokens + slot_of(listing, unit) * listing.length + first;
    return tokens_listed(listed, least<int64_t>(order.tile, listing.length - first), to);
}

// Moves those of some tokens that lie from `first` on, `rows` long, to the front; how many.
static int tokens_there(int64_t first, int64_t rows, int count, Int *tokens) {
    int found = 0;
    for (int i = 0; i < count; i++)
        if (tokens[i] >= first && tokens[i] - first < rows) tokens[found++] = tokens[i];
    return found;
}

// Calls `visit(tile of keys, whether it is full)` for each that a tile of rows meets, run by run. `start`: the position of
// the first row, with which the tiles of rows that may begin anywhere move on.
template <class Visit>
INLINE void visits(const Bounds &bounds, const Unit &unit, int64_t start, TileCount rows, TileCount keys, Visit visit) {
    int64_t along = unit.tile, limit = keys.total(), base = 0;
    if (bounds.aligned) {
        base = unit.tile / rows.per_class * keys.per_class;
        along = unit.tile % rows.per_class, limit = keys.per_class;
    }
    const int64_t row = slot_of(bounds, unit) * bounds.period + along % bounds.period;
    const int64_t move = along / bounds.period * bounds.shift + start / bounds.start_step * bounds.start_shift;
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
    // The position of the first row of k in an entry of the batch.
    int64_t first_key(int64_t batch) const { return IS_PART ? launch.k_start[batch * launch.k_start_step] : 0; }
    // Of a part, only the keys that exist: a full tile has no others.
    int key_tokens(int segment, const Unit &unit, Int *to) const {
        const int count = tokens_of(keys[segment], argument.segments[segment].keys, unit, launch.n, to);
        return IS_PART ? tokens_there(first_key(unit.batch), launch.key_rows, count, to) : count;
    }
    template <class Visit> INLINE_MEMBER void visit(int segment, const Unit &unit, Visit visit) const {
        const int64_t start = launch.q_start[unit.batch * launch.q_start_step];
        visits(argument.segments[segment].bounds, unit, start, row_tiles, key_tiles[segment], visit);
    }
    int64_t visit_count(const Unit &unit) const {
        int64_t count = 0;
        for (int s = 0; s < SEGMENTS; s++) visit(s, unit, [&](int64_t, bool) { count++; });
        return count;
    }

    // Whether the last tile of rows visits more than the first, as under a causal mask. Work is then taken from the last
    // tile on: were the longest the last, one thread would end late and the others wait.
    bool grows() const {
        const int64_t last = row_tiles.total() - 1;
        return last > 0 && visit_count({0, 0, last}) > visit_count({0, 0, 0});
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
