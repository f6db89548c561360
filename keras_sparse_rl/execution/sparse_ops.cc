// Products with a sparse matrix, as three TensorFlow ops on the CPU.
//
// Activations are feature-major, (features, batch): a non-zero meets a whole
// row of them, so that everything is vectors. A row of the matrix owns a range
// of entries; an entry is an index of the other side and a value. Sums are
// float32, whatever the activations are.

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <memory>
#include <utility>
#include <vector>

#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/framework/shape_inference.h"
#include "tensorflow/core/lib/core/threadpool.h"

namespace {

using tensorflow::OpKernel;
using tensorflow::OpKernelConstruction;
using tensorflow::OpKernelContext;
using tensorflow::Tensor;
using tensorflow::TensorShape;
using tensorflow::errors::InvalidArgument;

#if defined(__AVX512F__)
constexpr int kWidth = 16;
#elif defined(__AVX__)
constexpr int kWidth = 8;
#else
constexpr int kWidth = 4;
#endif
constexpr int kVectors = 8;  // in a tile of the batch; they stay in registers
constexpr int64_t kTile = kVectors * kWidth;
constexpr char kOutside[] =
    "An entry of the sparse matrix lies outside of it.";
// Entries whose rows are fetched before their turn: the first line of each, the
// processor sees by itself that others follow.
constexpr int kAhead = 4;

typedef float Vector __attribute__((vector_size(4 * kWidth)));
typedef uint32_t Bits __attribute__((vector_size(4 * kWidth)));
typedef int32_t Lanes __attribute__((vector_size(4 * kWidth)));
typedef float LooseVector
    __attribute__((vector_size(4 * kWidth), aligned(4), may_alias));
typedef uint16_t LooseHalves
    __attribute__((vector_size(2 * kWidth), aligned(2), may_alias));

// bfloat16 is the upper half of a float32.
struct BFloat16 {
  uint16_t bits;
};

inline Vector Load(const float* p) {
  return *reinterpret_cast<const LooseVector*>(p);
}

inline Vector Load(const BFloat16* p) {
  Bits wide = __builtin_convertvector(
      *reinterpret_cast<const LooseHalves*>(p), Bits);
  return reinterpret_cast<Vector>(wide << 16);
}

inline void Store(float* p, Vector v) {
  *reinterpret_cast<LooseVector*>(p) = v;
}

inline void Store(BFloat16* p, Vector v) {
  Bits bits = reinterpret_cast<Bits>(v);
  Bits rounded = bits + 0x7fff + ((bits >> 16) & 1);
  Bits is_nan = reinterpret_cast<Bits>(v != v);
  rounded = (rounded & ~is_nan) | ((bits | 0x400000) & is_nan);
  *reinterpret_cast<LooseHalves*>(p) =
      __builtin_convertvector(rounded >> 16, LooseHalves);
}

inline float ToFloat(float x) { return x; }

inline float ToFloat(BFloat16 x) {
  uint32_t bits = static_cast<uint32_t>(x.bits) << 16;
  float y;
  std::memcpy(&y, &bits, 4);
  return y;
}

inline void FromFloat(float x, float* y) { *y = x; }

inline void FromFloat(float x, BFloat16* y) {
  BFloat16 lanes[kWidth];
  Store(lanes, x - Vector{});
  *y = lanes[0];
}

// Lane i is a[i] + a[i ^ S] where bit S of i is 0, and the same of b where it
// is 1: one level of summing kWidth vectors to the lanes of one.
template <int S, int... I>
inline Vector Fold(Vector a, Vector b, std::integer_sequence<int, I...>) {
#if defined(__clang__)
  return __builtin_shufflevector(a, b, ((I & S) ? kWidth + I : I)...) +
         __builtin_shufflevector(a, b,
                                 ((I & S) ? kWidth + (I ^ S) : (I ^ S))...);
#else
  return __builtin_shuffle(a, b, Lanes{((I & S) ? kWidth + I : I)...}) +
         __builtin_shuffle(
             a, b, Lanes{((I & S) ? kWidth + (I ^ S) : (I ^ S))...});
#endif
}

// Exchanges, in two rows S apart, what stands S lanes off the diagonal: one
// level of transposing kWidth rows of kWidth lanes.
template <int S, int... I>
inline void Exchange(Vector* rows, std::integer_sequence<int, I...>) {
  for (int i = 0; i < kWidth; ++i) {
    if (i & S) continue;
    const Vector a = rows[i], b = rows[i + S];
#if defined(__clang__)
    rows[i] = __builtin_shufflevector(
        a, b, ((I & S) ? kWidth + (I ^ S) : I)...);
    rows[i + S] = __builtin_shufflevector(
        a, b, ((I & S) ? kWidth + I : (I ^ S))...);
#else
    rows[i] =
        __builtin_shuffle(a, b, Lanes{((I & S) ? kWidth + (I ^ S) : I)...});
    rows[i + S] =
        __builtin_shuffle(a, b, Lanes{((I & S) ? kWidth + I : (I ^ S))...});
#endif
  }
}

template <int S>
inline void Exchanges(Vector* rows) {
  if constexpr (S > 0) {
    Exchange<S>(rows, std::make_integer_sequence<int, kWidth>());
    Exchanges<S / 2>(rows);
  }
}

// The transpose of a block of kWidth x kWidth numbers.
inline void TransposeBlock(const float* from, int64_t from_stride, float* to,
                           int64_t to_stride) {
  Vector rows[kWidth];
  for (int i = 0; i < kWidth; ++i) rows[i] = Load(from + i * from_stride);
  Exchanges<kWidth / 2>(rows);
  for (int i = 0; i < kWidth; ++i) Store(to + i * to_stride, rows[i]);
}

inline void TransposeBlock(const uint16_t* from, int64_t from_stride,
                           uint16_t* to, int64_t to_stride) {
  for (int i = 0; i < kWidth; ++i) {
    for (int j = 0; j < kWidth; ++j) {
      to[j * to_stride + i] = from[i * from_stride + j];
    }
  }
}

// Which entries belong to each row.
struct Rows {
  const int32_t* begin;
  const int32_t* end;
  const int32_t* indices;
  int64_t count;
};

// A tile of the batch: rows of `stride` numbers each.
template <typename T>
struct Tile {
  const T* data;
  int64_t stride;
  const T* Row(int64_t index) const { return data + index * stride; }
};

template <typename T, int N>
inline void MultiplyRow(const float* values, const int32_t* order,
                        const int32_t* indices, int64_t begin, int64_t end,
                        int64_t last, float bias, Tile<T> x, Vector* sums) {
  Vector sum[N];
  for (int n = 0; n < N; ++n) sum[n] = bias - Vector{};
  for (int64_t k = begin; k < end; ++k) {
    __builtin_prefetch(x.Row(indices[std::min(k + kAhead, last)]));
    const float value = values[order ? order[k] : k];
    const T* row = x.Row(indices[k]);
    for (int n = 0; n < N; ++n) sum[n] += value * Load(row + n * kWidth);
  }
  for (int n = 0; n < N; ++n) sums[n] = sum[n];
}

template <typename T, int N>
inline Vector Dot(const Vector* left, const T* right) {
  Vector sum = left[0] * Load(right);
  for (int n = 1; n < N; ++n) sum += left[n] * Load(right + n * kWidth);
  return sum;
}

// The products of one row with `Count` others, in the lanes of a vector;
// behind them stand the `kAhead` indices that come next.
template <typename T, int N, int Count>
struct Dots {
  static inline Vector Get(const Vector* left, const int32_t* indices,
                           Tile<T> x) {
    return Fold<Count / 2>(
        Dots<T, N, Count / 2>::Get(left, indices, x),
        Dots<T, N, Count / 2>::Get(left, indices + Count / 2, x),
        std::make_integer_sequence<int, kWidth>());
  }
};

template <typename T, int N>
struct Dots<T, N, 1> {
  static inline Vector Get(const Vector* left, const int32_t* indices,
                           Tile<T> x) {
    __builtin_prefetch(x.Row(indices[kAhead]));
    return Dot<T, N>(left, x.Row(*indices));
  }
};

template <typename T, int N>
inline void SampleRow(const T* left, const int32_t* indices, int64_t begin,
                      int64_t end, int64_t last, Tile<T> x, bool is_first,
                      float* out) {
  Vector row[N];
  for (int n = 0; n < N; ++n) row[n] = Load(left + n * kWidth);
  for (int64_t k = begin; k < end; k += kWidth) {
    const int64_t count = std::min<int64_t>(kWidth, end - k);
    float sums[kWidth];
    if (count > kWidth / 4) {
      int32_t found[kWidth + kAhead];
      for (int i = 0; i < kWidth + kAhead; ++i) {
        const int64_t at = i < count || i >= kWidth ? k + i : end - 1;
        found[i] = indices[std::min(at, last)];
      }
      Vector lanes = Dots<T, N, kWidth>::Get(row, found, x);
      Store(sums, lanes);
    } else {
      for (int64_t i = 0; i < count; ++i) {
        Vector lanes = Dot<T, N>(row, x.Row(indices[k + i]));
        sums[i] = 0;
        for (int lane = 0; lane < kWidth; ++lane) sums[i] += lanes[lane];
      }
    }
    for (int64_t i = 0; i < count; ++i) {
      out[k + i] = sums[i] + (is_first ? 0.0f : out[k + i]);
    }
  }
}

// Columns of a matrix, copied where a tile would not be whole vectors or
// where rows a power of two apart would fight for the same cache lines.
template <typename T>
class Packed {
 public:
  Packed(const T* data, int64_t rows, int64_t batch)
      : data_(data), rows_(rows), batch_(batch),
        copies_(batch > kTile || batch % kWidth != 0) {
    if (copies_) buffer_.reset(new T[rows * kTile]);
  }

  template <typename Pool>
  Tile<T> Take(int64_t column, int64_t width, int64_t padded, Pool* pool) {
    if (!copies_) return {data_, batch_};
    T* buffer = buffer_.get();
    pool->ParallelFor(rows_, 2 * padded, [=](int64_t first, int64_t last) {
      for (int64_t row = first; row < last; ++row) {
        T* to = buffer + row * padded;
        std::memcpy(to, data_ + row * batch_ + column, width * sizeof(T));
        std::memset(to + width, 0, (padded - width) * sizeof(T));
      }
    });
    return {buffer, padded};
  }

 private:
  const T* data_;
  const int64_t rows_, batch_;
  const bool copies_;
  std::unique_ptr<T[]> buffer_;
};

template <typename T>
struct Types;
template <>
struct Types<float> {
  typedef float Here;
};
template <>
struct Types<tensorflow::bfloat16> {
  typedef BFloat16 Here;
};

// Calls f(std::integral_constant<int, N>) for N = `vectors`.
template <typename F>
inline void WithVectors(int64_t vectors, F f) {
  switch (vectors) {
    case 1: return f(std::integral_constant<int, 1>());
    case 2: return f(std::integral_constant<int, 2>());
    case 3: return f(std::integral_constant<int, 3>());
    case 4: return f(std::integral_constant<int, 4>());
    case 5: return f(std::integral_constant<int, 5>());
    case 6: return f(std::integral_constant<int, 6>());
    case 7: return f(std::integral_constant<int, 7>());
    default: return f(std::integral_constant<int, 8>());
  }
}

tensorflow::thread::ThreadPool* PoolOf(OpKernelContext* context) {
  return context->device()->tensorflow_cpu_worker_threads()->workers;
}

// Indices come from variables that anything might have written to. A row is
// looked at just before its turn, when it has to come into the cache anyway.
inline bool RowFits(const Rows& rows, int64_t row, const int32_t* order,
                    int64_t entries, int64_t values, int64_t features) {
  const int64_t begin = rows.begin[row], end = rows.end[row];
  if (begin < 0 || end > entries) return false;
  uint32_t bad = 0;
  for (int64_t k = begin; k < end; ++k) {
    bad |= static_cast<uint32_t>(rows.indices[k]) >= features;
  }
  for (int64_t k = begin; order && k < end; ++k) {
    bad |= static_cast<uint32_t>(order[k]) >= values;
  }
  return !bad;
}

// y[row, :] = sum over the row's entries k of values[k] * x[indices[k], :],
// or of values[order[k]] where an order is given, plus bias[row] where a bias
// is given.
template <typename TfType>
class SparseMatmul : public OpKernel {
  typedef typename Types<TfType>::Here T;

 public:
  explicit SparseMatmul(OpKernelConstruction* context) : OpKernel(context) {}

  void Compute(OpKernelContext* context) override {
    const Tensor& values = context->input(0);
    const Tensor& order = context->input(1);
    const Tensor& indices = context->input(2);
    const Tensor& begin = context->input(3);
    const Tensor& end = context->input(4);
    const Tensor& bias = context->input(5);
    const Tensor& x = context->input(6);
    OP_REQUIRES(context, x.dims() == 2 && begin.NumElements() ==
                             end.NumElements() && (order.NumElements() == 0 ||
                             order.NumElements() == indices.NumElements()) &&
                             (bias.NumElements() == 0 ||
                             bias.NumElements() == begin.NumElements()),
                InvalidArgument("x must be (features, batch), the order as "
                                "long as the indices, the bias as the rows."));
    const int64_t features = x.dim_size(0), batch = x.dim_size(1);
    Rows rows = {begin.flat<int32_t>().data(), end.flat<int32_t>().data(),
                 indices.flat<int32_t>().data(), begin.NumElements()};
    const int32_t* permuted =
        order.NumElements() ? order.flat<int32_t>().data() : nullptr;
    const float* added =
        bias.NumElements() ? bias.flat<float>().data() : nullptr;
    Tensor* y = nullptr;
    OP_REQUIRES_OK(context, context->allocate_output(
                                0, TensorShape({rows.count, batch}), &y));
    if (batch == 0 || rows.count == 0) return;
    const float* from = values.flat<float>().data();
    const T* in = reinterpret_cast<const T*>(x.flat<TfType>().data());
    T* out = reinterpret_cast<T*>(y->flat<TfType>().data());
    auto* pool = PoolOf(context);
    const int64_t each = (indices.NumElements() / rows.count + 1);
    const int64_t last = indices.NumElements() - 1;
    const int64_t num_values = values.NumElements();
    const int64_t entries =
        permuted ? last + 1 : std::min<int64_t>(last + 1, num_values);
    std::atomic<bool> fits(true);
    auto check = [=, &fits](int64_t row) {
      const bool row_fits =
          RowFits(rows, row, permuted, entries, num_values, features);
      if (!row_fits) fits = false;
      return row_fits;
    };
    if (batch == 1) {
      pool->ParallelFor(rows.count, 4 * each, [=](int64_t a, int64_t b) {
        for (int64_t row = a; row < b; ++row) {
          if (!check(row)) continue;
          const float sum = Gathered(from, permuted, rows, row, in);
          FromFloat(sum + (added ? added[row] : 0.0f), out + row);
        }
      });
      OP_REQUIRES(context, fits, InvalidArgument(kOutside));
      return;
    }
    Packed<T> packed(in, features, batch);
    for (int64_t column = 0; column < batch; column += kTile) {
      const int64_t width = std::min(kTile, batch - column);
      const int64_t vectors = (width + kWidth - 1) / kWidth;
      const Tile<T> tile =
          packed.Take(column, width, vectors * kWidth, pool);
      WithVectors(vectors, [&](auto n) {
        constexpr int N = decltype(n)::value;
        pool->ParallelFor(
            rows.count, each * 2 * N, [=](int64_t a, int64_t b) {
              for (int64_t row = a; row < b; ++row) {
                if (!check(row)) continue;
                Vector sums[N];
                MultiplyRow<T, N>(from, permuted, rows.indices,
                                  rows.begin[row], rows.end[row], last,
                                  added ? added[row] : 0.0f, tile, sums);
                T* to = out + row * batch + column;
                if (width == N * kWidth) {
                  for (int i = 0; i < N; ++i) Store(to + i * kWidth, sums[i]);
                } else {
                  T whole[N * kWidth];
                  for (int i = 0; i < N; ++i) {
                    Store(whole + i * kWidth, sums[i]);
                  }
                  std::memcpy(to, whole, width * sizeof(T));
                }
              }
            });
      });
    }
    OP_REQUIRES(context, fits, InvalidArgument(kOutside));
  }

 private:
  static float Gathered(const float* values, const int32_t* order,
                        const Rows& rows, int64_t row, const T* x) {
    float sums[4] = {};
    int64_t k = rows.begin[row];
    const int64_t end = rows.end[row];
    for (; k + 4 <= end; k += 4) {
      for (int i = 0; i < 4; ++i) {
        const float value = values[order ? order[k + i] : k + i];
        sums[i] += value * ToFloat(x[rows.indices[k + i]]);
      }
    }
    for (; k < end; ++k) {
      sums[0] += values[order ? order[k] : k] * ToFloat(x[rows.indices[k]]);
    }
    return (sums[0] + sums[1]) + (sums[2] + sums[3]);
  }
};

// out[k] = <left[row of k, :], right[indices[k], :]> for every entry k whose
// mask has bit 2, and 0 for all others.
template <typename TfType>
class SampledMatmul : public OpKernel {
  typedef typename Types<TfType>::Here T;

 public:
  explicit SampledMatmul(OpKernelConstruction* context) : OpKernel(context) {}

  void Compute(OpKernelContext* context) override {
    const Tensor& mask = context->input(0);
    const Tensor& indices = context->input(1);
    const Tensor& begin = context->input(2);
    const Tensor& end = context->input(3);
    const Tensor& left = context->input(4);
    const Tensor& right = context->input(5);
    OP_REQUIRES(context, left.dims() == 2 && right.dims() == 2 &&
                             left.dim_size(1) == right.dim_size(1) &&
                             left.dim_size(0) == begin.NumElements() &&
                             left.dim_size(0) == end.NumElements() &&
                             mask.NumElements() == indices.NumElements(),
                InvalidArgument("Shapes do not fit."));
    const int64_t entries = indices.NumElements();
    const int64_t batch = left.dim_size(1);
    Rows rows = {begin.flat<int32_t>().data(), end.flat<int32_t>().data(),
                 indices.flat<int32_t>().data(), begin.NumElements()};
    const int64_t features = right.dim_size(0);
    std::atomic<bool> fits(true);
    Tensor* gradient = nullptr;
    OP_REQUIRES_OK(context, context->allocate_output(
                                0, TensorShape({entries}), &gradient));
    float* out = gradient->flat<float>().data();
    if (batch == 0 || rows.count == 0) {
      std::fill_n(out, entries, 0.0f);
      return;
    }
    const uint8_t* bits = mask.flat<uint8_t>().data();
    auto* pool = PoolOf(context);
    const T* a = reinterpret_cast<const T*>(left.flat<TfType>().data());
    const T* b = reinterpret_cast<const T*>(right.flat<TfType>().data());
    Packed<T> lefts(a, rows.count, batch), rights(b, features, batch);
    const int64_t each = entries / rows.count + 1;
    for (int64_t column = 0; column < batch; column += kTile) {
      const int64_t width = std::min(kTile, batch - column);
      const int64_t vectors = (width + kWidth - 1) / kWidth;
      const Tile<T> x = lefts.Take(column, width, vectors * kWidth, pool);
      const Tile<T> y = rights.Take(column, width, vectors * kWidth, pool);
      WithVectors(vectors, [&](auto n) {
        constexpr int N = decltype(n)::value;
        pool->ParallelFor(
            rows.count, each * 2 * (N + 2),
            [=, &fits](int64_t first, int64_t last) {
              for (int64_t row = first; row < last; ++row) {
                if (!RowFits(rows, row, nullptr, entries, 0, features)) {
                  fits = false;
                  continue;
                }
                SampleRow<T, N>(x.Row(row), rows.indices, rows.begin[row],
                                rows.end[row], entries - 1, y, column == 0,
                                out);
              }
            });
      });
    }
    OP_REQUIRES(context, fits, InvalidArgument(kOutside));
    // Entries of no row are room for more; others may be frozen.
    for (int64_t k = 0; k < entries; ++k) {
      out[k] = (bits[k] & 2) ? out[k] : 0.0f;
    }
  }
};

// The transpose of a matrix.
template <typename TfType, typename T>
class Transpose : public OpKernel {
 public:
  explicit Transpose(OpKernelConstruction* context) : OpKernel(context) {}

  void Compute(OpKernelContext* context) override {
    const Tensor& x = context->input(0);
    OP_REQUIRES(context, x.dims() == 2, InvalidArgument("x must be a matrix."));
    const int64_t rows = x.dim_size(0), columns = x.dim_size(1);
    Tensor* y = nullptr;
    OP_REQUIRES_OK(context, context->allocate_output(
                                0, TensorShape({columns, rows}), &y));
    if (rows == 0 || columns == 0) return;
    const T* from = reinterpret_cast<const T*>(x.flat<TfType>().data());
    T* to = reinterpret_cast<T*>(y->flat<TfType>().data());
    const int64_t blocks = (columns + kWidth - 1) / kWidth;
    PoolOf(context)->ParallelFor(
        blocks, rows * kWidth / 2, [=](int64_t first, int64_t last) {
          for (int64_t block = first; block < last; ++block) {
            Strip(from, to, rows, columns, block * kWidth);
          }
        });
  }

 private:
  static void Strip(const T* from, T* to, int64_t rows, int64_t columns,
                    int64_t column) {
    const int64_t width = std::min<int64_t>(kWidth, columns - column);
    int64_t row = 0;
    if (width == kWidth) {
      for (; row + kWidth <= rows; row += kWidth) {
        TransposeBlock(from + row * columns + column, columns,
                       to + column * rows + row, rows);
      }
    }
    for (; row < rows; ++row) {
      for (int64_t i = 0; i < width; ++i) {
        to[(column + i) * rows + row] = from[row * columns + column + i];
      }
    }
  }
};

using tensorflow::shape_inference::InferenceContext;

REGISTER_OP("KerasSparseRlTranspose")
    .Attr("T: {float, bfloat16, half}")
    .Input("x: T")
    .Output("y: T")
    .SetShapeFn([](InferenceContext* c) {
      tensorflow::shape_inference::ShapeHandle x;
      TF_RETURN_IF_ERROR(c->WithRank(c->input(0), 2, &x));
      c->set_output(0, c->Matrix(c->Dim(x, 1), c->Dim(x, 0)));
      return absl::OkStatus();
    });

#define REGISTER_TRANSPOSE(TfType, T)                          \
  REGISTER_KERNEL_BUILDER(Name("KerasSparseRlTranspose")       \
                              .Device(tensorflow::DEVICE_CPU)  \
                              .TypeConstraint<TfType>("T"),    \
                          Transpose<TfType, T>)
REGISTER_TRANSPOSE(float, float);
REGISTER_TRANSPOSE(tensorflow::bfloat16, uint16_t);
#define HALF Eigen::half
REGISTER_TRANSPOSE(HALF, uint16_t);

REGISTER_OP("KerasSparseRlMatmul")
    .Attr("T: {float, bfloat16}")
    .Input("values: float")
    .Input("order: int32")
    .Input("indices: int32")
    .Input("begin: int32")
    .Input("end: int32")
    .Input("bias: float")
    .Input("x: T")
    .Output("y: T")
    .SetShapeFn([](InferenceContext* c) {
      c->set_output(0, c->MakeShape({c->NumElements(c->input(3)),
                                     c->RankKnown(c->input(6))
                                         ? c->Dim(c->input(6), 1)
                                         : c->UnknownDim()}));
      return absl::OkStatus();
    });

REGISTER_OP("KerasSparseRlSampledMatmul")
    .Attr("T: {float, bfloat16}")
    .Input("mask: uint8")
    .Input("indices: int32")
    .Input("begin: int32")
    .Input("end: int32")
    .Input("left: T")
    .Input("right: T")
    .Output("gradient: float")
    .SetShapeFn([](InferenceContext* c) {
      c->set_output(0, c->input(1));
      return absl::OkStatus();
    });

#define REGISTER(T)                                              \
  REGISTER_KERNEL_BUILDER(Name("KerasSparseRlMatmul")            \
                              .Device(tensorflow::DEVICE_CPU)    \
                              .TypeConstraint<T>("T"),           \
                          SparseMatmul<T>);                      \
  REGISTER_KERNEL_BUILDER(Name("KerasSparseRlSampledMatmul")     \
                              .Device(tensorflow::DEVICE_CPU)    \
                              .TypeConstraint<T>("T"),           \
                          SampledMatmul<T>)
REGISTER(float);
REGISTER(tensorflow::bfloat16);

}  // namespace
