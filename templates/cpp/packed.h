// Tiles of keys and values as rows of reals.
#pragma once

// Rows of keys or values as reals.
struct Rows {
    const Real *data;
    int64_t pitch;
    Rows from(int row) const { return {data + row * pitch, pitch}; }
};

// One tile of keys, their values and their positions.
struct Keys {
    Rows keys, values;
    const Int *position;
    int count;
};

// How many tiles of so many bytes a thread keeps.
constexpr int packed_places(int64_t bytes) { return bytes * 16 <= 1 << 20 ? 16 : bytes * 4 <= 1 << 20 ? 4 : 1; }

// How many more there are for keys of 16 bits, of which no tile is read where it lies: under a causal mask every tile of
// rows meets all tiles of keys before it.
constexpr int wide_places(int64_t bytes) { return bytes * 64 <= 1 << 22 ? 64 : 1; }

// Tiles of keys as reals, packed where they do not lie so. Each stays until another wants its place: tiles of rows that
// follow one another meet the same tiles of keys.
template <class Storage, int TILE, int KEY, int VALUE, int PLACES = packed_places(TILE * (KEY + VALUE) * sizeof(Real))>
struct Packed {
    static constexpr int WIDE = wide_places(TILE * (KEY + VALUE) * sizeof(Real));
    static constexpr int ALL = sizeof(Storage) < sizeof(Real) && WIDE > PLACES && PLACES > 1 ? WIDE : PLACES;
    struct Place {
        alignas(64) Real keys[TILE * KEY + 1], values[TILE * VALUE + 1];
        Int position[TILE];
        int count;
    };
    int64_t owner[ALL], tile[ALL];
    Int direct[TILE];  // positions of a tile that is read where it lies
    Place place[ALL];

    void clear() {
        for (int i = 0; i < ALL; i++) owner[i] = -1;
    }

    // `first`: the position of the row at `from`.
    template <int DEPTH>
    static void pack(const Storage *from, int64_t first, int64_t step, const Int *position, int count, Real *to) {
        constexpr int WHOLE = DEPTH / LANES * LANES;
        for (int i = 0; i < count; i++) {
            const Storage *row = from + (position[i] - first) * step;
            UNROLL for (int d = 0; d < WHOLE; d += LANES) store(to + i * DEPTH + d, load_row(row + d));
            for (int d = WHOLE; d < DEPTH; d++) to[i * DEPTH + d] = to_real(row[d]);
        }
    }

    // `unit`: the tile of keys of one segment.
    template <int SEGMENTS> Keys tile_of(const Walk<SEGMENTS> &walk, int segment, const Unit &unit) {
        const Launch &launch = walk.launch;
        const int64_t kv_head = walk.head(unit) / (launch.heads / launch.kv_heads);
        const Storage *keys = advance<const Storage>(launch.k, launch.k_step, unit.batch, kv_head, 0);
        const Storage *values = advance<const Storage>(launch.v, launch.v_step, unit.batch, kv_head, 0);
        const Order &order = walk.keys[segment];
        const int64_t origin = walk.first_key(unit.batch);
        if constexpr (std::is_same_v<Storage, Real>)
            if (side_by_side(order) && launch.k_step[2] == KEY && launch.v_step[2] == VALUE) {
                const int count = walk.key_tokens(segment, unit, direct);
                const int64_t first = count ? direct[0] - origin : 0;
                return {{keys + first * KEY, KEY}, {values + first * VALUE, VALUE}, direct, count};
            }
        const bool by_head = walk.argument.segments[segment].keys.head_slots > 1;
        const int64_t whose = by_head ? launch.kv_heads + unit.place : kv_head;
        const int64_t wanted = (segment * launch.batch + unit.batch) * (launch.kv_heads + walk.heads) + whose;
        // A box is met by one tile of rows only: one place, still near from the last one, serves all.
        const int places = walk.key_tiles[segment].total() <= ALL ? ALL : PLACES;
        const int at = overlap(order) ? 0 : int((unit.tile + segment * 5) % places);
        Place &z = place[at];
        if (owner[at] != wanted || tile[at] != unit.tile) {
            z.count = walk.key_tokens(segment, unit, z.position);
            pack<KEY>(keys, origin, launch.k_step[2], z.position, z.count, z.keys);
            pack<VALUE>(values, origin, launch.v_step[2], z.position, z.count, z.values);
            owner[at] = wanted, tile[at] = unit.tile;
        }
        return {{z.keys, KEY}, {z.values, VALUE}, z.position, z.count};
    }
};
