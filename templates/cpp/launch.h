// One call, as it comes from the caller, and the threads that share its work.
#pragma once
#include <cstddef>
#include <cstdlib>
#if defined(__linux__)
#include <sys/mman.h>
#endif
#ifndef IS_PART  // a source defines it where k and v hold a part of the keys
#define IS_PART false
#endif

struct TableArgument {
    const void *data;
    int64_t batch_step;    // elements from one batch entry to the next; 0 where all share one
    const int64_t *sizes;  // without the batch
    int64_t size;          // elements of one batch entry
    Real *gradient;        // [batch or 1, sizes]; zero before; null where none is wanted
};

// Which tiles of keys each tile of queries visits: a row of runs for each tile of one period.
struct Bounds {
    int64_t period, shift, aligned, batch_slots, head_slots;
    int64_t start_step, start_shift;  // how tiles move on with the position of the first row; no move where the rows say all
    const int64_t *pointer;  // [batch_slots * head_slots * period + 1]
    const int32_t *start, *length;
    const uint8_t *kind;
};

// The tokens of an order that constants do not tell, -1 past the end of a list.
struct Listing {
    const int32_t *tokens;  // [batch_slots * head_slots, length]
    int64_t length, batch_slots, head_slots;
};

struct SegmentArgument {
    Bounds bounds;
    Listing keys;
};

struct KernelArgument {
    const SegmentArgument *segments;
    Listing rows;
    const int32_t *heads;  // the query heads that it runs for; null for all
    int64_t head_count;
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
    void *out;             // [batch, heads, m, value_dim]; reals in the forward pass of several kernels
    Real *lse;             // [batch, heads, m]
    const KernelArgument *kernels;
    const int64_t *numbers;
    const TableArgument *tables;
    int64_t seed, drop_below;  // a probability is dropped where its hash is below
    double keep_scale;
    // Backward only.
    const void *grad_out;
    int64_t grad_out_step[3];
    const Real *grad_lse;  // [batch, heads, m], or null
    // The gradients, null where they are not asked for.
    void *grad_q;          // [batch, heads, m, head_dim]; of several kernels reals, zero before
    Real *grad_k, *grad_v; // [batch, kv_heads, key_rows, head_dim or value_dim]; zero before
    int64_t room;          // bytes that a backward pass may take beyond its inputs and results
    int64_t *columns;      // of kernels that count: pairs in the tiles visited, pairs multiplied; backward: in all products
    // Of a part: the position of the first key, and how many rows of k, v and their gradients there are from it on.
    const int64_t *k_start;
    int64_t k_start_step, key_rows;
    int64_t start;  // where q_start may point
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
    static constexpr size_t HUGE_PAGE = size_t(1) << 21;
    Real *data = nullptr;
    int64_t size = 0;
    Real *reals(int64_t count) {
        if (count >= size) {
            std::free(data);
            // A huge page is cleared as a whole when it is first touched: too much for what a part of it would do.
            const size_t needed = size_t(count) * sizeof(Real), page = needed < HUGE_PAGE / 2 ? 64 : HUGE_PAGE;
            const size_t bytes = (needed + page) / page * page;
            data = (Real *)std::aligned_alloc(page, bytes);
            size = data ? int64_t(bytes / sizeof(Real)) : 0;
#ifdef MADV_HUGEPAGE
            if (data && page == HUGE_PAGE) madvise(data, bytes, MADV_HUGEPAGE);  // first touches cost less by far
#endif
        }
        return data;
    }
    Pool() = default;
    Pool(const Pool &) = delete;
    ~Pool() { std::free(data); }
};

// Runs `worker(take)` on each thread; `take()` gives the next of `items` numbers, or -1. `backwards`: the last one first.
template <class Worker> static void share(int64_t threads, int64_t items, Worker worker, bool backwards = false) {
    int64_t next = 0;
    auto take = [&]() {
        int64_t item = __atomic_fetch_add(&next, 1, __ATOMIC_RELAXED);
        return item >= items ? int64_t(-1) : backwards ? items - 1 - item : item;
    };
    threads = least(threads, items);
    if (threads <= 1) return worker(take);
#pragma omp parallel num_threads(int(threads))
    worker(take);
}
