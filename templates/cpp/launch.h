// One call, as it comes from the caller, and the threads that share its work.
#pragma once
#include <cstddef>
#include <cstdlib>
#if defined(__linux__)
#include <sys/mman.h>
#endif

struct TableArgument {
    const void *data;
    int64_t batch_step;    // elements from one batch entry to the next; 0 where all share one
    const int64_t *sizes;  // without the batch
    int64_t size;          // elements of one batch entry
    Real *gradient;        // [batch or 1, sizes]; zero before; null where none is wanted
};

struct Launch {
    int64_t batch, heads, kv_heads, m, n;
    int64_t threads;
    // Steps are in elements: from one batch entry, one head, one row to the next. Entries of a row are adjacent.
    const void *q, *k, *v;
    int64_t q_step[3], k_step[3], v_step[3];
    const Real *scale;  // [heads]
    const int64_t *q_start;
    int64_t q_start_step;  // 0 where the batch shares one
    void *out;             // [batch, heads, m, value_dim]
    Real *lse;             // [batch, heads, m]
    // The tiles that each tile of queries visits: see `Runs` below.
    const int64_t *run_pointer;
    const int32_t *run_start, *run_length;
    const uint8_t *run_kind;
    int64_t batch_slots, head_slots;
    const TableArgument *tables;
    int64_t seed, drop_below;  // a probability is dropped where its hash is below
    double keep_scale;
    // Backward only.
    const void *grad_out;
    int64_t grad_out_step[3];
    const Real *grad_lse;  // [batch, heads, m], or null
    void *grad_q;          // [batch, heads, m, head_dim]
    Real *grad_k, *grad_v; // [batch, kv_heads, n, head_dim or value_dim]; zero before
    int64_t room;          // bytes that private sums may take
};

enum { PARTIAL = 1, FULL = 2 };

template <class T> INLINE T least(T a, T b) { return b < a ? b : a; }
INLINE int64_t tiles(int64_t length, int64_t tile) { return (length + tile - 1) / tile; }

template <class T> INLINE T *advance(const void *data, const int64_t (&step)[3], int64_t batch, int64_t head, int64_t row) {
    return (T *)data + (batch * step[0] + head * step[1] + row * step[2]);
}

// Memory that lives as long as its block; `data` is null where there was none to have.
template <class T> struct Buffer {
    T *data;
    explicit Buffer(size_t count) : data((T *)std::aligned_alloc(64, (count * sizeof(T) + 64) / 64 * 64)) {}
    Buffer(const Buffer &) = delete;
    ~Buffer() { std::free(data); }
};

// One piece of memory that grows and is used again.
struct Pool {
    Real *data = nullptr;
    int64_t size = 0;
    Real *reals(int64_t count) {
        if (count >= size) {
            constexpr size_t PAGE = size_t(1) << 21;
            std::free(data);
            size_t bytes = (size_t(count) * sizeof(Real) + PAGE) / PAGE * PAGE;
            data = (Real *)std::aligned_alloc(PAGE, bytes);
            size = data ? int64_t(bytes / sizeof(Real)) : 0;
#ifdef MADV_HUGEPAGE
            if (data) madvise(data, bytes, MADV_HUGEPAGE);  // first touches cost less by far
#endif
        }
        return data;
    }
    Pool() = default;
    Pool(const Pool &) = delete;
    ~Pool() { std::free(data); }
};

// Runs `worker(take)` on each thread; `take()` gives the next of `items` numbers, or -1.
template <class Worker> static void share(int64_t threads, int64_t items, Worker worker) {
    int64_t next = 0;
    auto take = [&]() {
        int64_t item = __atomic_fetch_add(&next, 1, __ATOMIC_RELAXED);
        return item < items ? item : int64_t(-1);
    };
    threads = least(threads, items);
    if (threads <= 1) return worker(take);
#pragma omp parallel num_threads(int(threads))
    worker(take);
}

// Rows of keys or values as reals: where they lie, or gathered into `room` where they are of another type or far apart.
struct Rows {
    const Real *data;
    int64_t pitch;
};
template <int DEPTH, class Storage> INLINE Rows rows_of(const Storage *from, int64_t step, int count, Real *room) {
    if constexpr (std::is_same_v<Storage, Real>)
        if (step == DEPTH) return {from, DEPTH};
    for (int i = 0; i < count; i++)
        for (int d = 0; d < DEPTH; d++) room[i * DEPTH + d] = to_real(from[i * step + d]);
    return {room, DEPTH};
}

// The row of runs of one tile of queries.
INLINE int64_t run_row(const Launch &launch, int64_t batch, int64_t head, int64_t tile, int64_t row_tiles) {
    const int64_t batch_slot = launch.batch_slots > 1 ? batch : 0, head_slot = launch.head_slots > 1 ? head : 0;
    return (batch_slot * launch.head_slots + head_slot) * row_tiles + tile;
}
