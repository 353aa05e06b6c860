#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <span>

#include "richflow/core/compiled.hpp"
#include "richflow/core/parallel.hpp"
#include "richflow/core/types.hpp"
#include "richflow/linalg/products.hpp"

namespace richflow {

/// Memory in which a Convolution3x3 works, shared by the layers of a network: sized by `reserve`, then nothing
/// allocates.
template <class S>
struct ConvolutionScratch {
  Vector<S> inputs = {};   // transformed tiles of the input, 16 blocks (rows x C_in)
  Vector<S> outputs = {};  // transformed tiles of the output, 16 blocks (rows x C_out)
  Vector<S> outside = {};  // a pixel beyond the image: zero
  Vector<S> dropped = {};  // where values that belong to such pixels are written
};

/// Some of the images of a batch before and after a convolution.
template <class S>
struct ConvolutionImages {
  Index batch;  // B
  const S* A;   // the input
  S* Z;         // the output
  S* dA = {};   // a change of the input, or the gradient by it; null where there is none
  S* dZ = {};   // the same of the output
};

/// The convolution of images with 3x3 filters, stride 1, with a border of zeros, so that the images keep their size:
///
///     Z(n, o, y, x) = sum_{c, i, j in -1..1} A(n, c, y + i, x + j) W(3 (i + 1) + (j + 1), c, o)
///
/// A batch of images is (B H W) x C, column-major with the sample innermost: row `n + B (x + W y)`, which is the
/// same memory as B x (C H W). The weights are (9 C_in) x C_out, row `t C_in + c`, t = 3 (i + 1) + (j + 1).
///
/// Computed by Winograd's minimal filtering F(2x2, 3x3) (Lavin & Gray 2016): each tile of 2x2 outputs takes 16
/// multiplications per pair of channels instead of 36, in 16 matrix products between transforms that are only sums.
/// The products with the Jacobian are the transposes and derivatives of these steps. Relative rounding
/// errors are about twice those of the sum above.
///
/// B must be a multiple of `lanes`: the batch is padded (zero samples stay zero). Cost of each product: 8 B H W C_in
/// C_out operations, H and W rounded up to even.
///
/// Images of several parts of a batch go through the same matrix products, which the threads share: the results do not
/// depend on their number.
template <class S>
class Convolution3x3 {
 public:
  /// Numbers that are worked on at once; what the batch must be a multiple of.
  static constexpr Index lanes = std::max<Index>(1, static_cast<Index>(EIGEN_MAX_STATIC_ALIGN_BYTES / sizeof(S)));

  /// Parts of a batch.
  using Parts = std::span<const ConvolutionImages<S>>;

  /// The values of `lanes` neighbouring images.
  using Packet = Eigen::Array<S, lanes, 1>;

  [[nodiscard]] static Packet load(const S* p) { return Packet::Map(p); }
  static void store(S* p, const Packet& value) { Packet::Map(p) = value; }

  /// `f` of each entry. A loop that compilers turn into vector instructions, which Eigen's comparisons are not.
  template <class F, class... Packets>
  [[nodiscard]] static Packet each(F f, const Packets&... packets) {
    Packet out;
    for (Index i = 0; i < lanes; ++i) out[i] = f(packets[i]...);
    return out;
  }

  /// The batch with its padding.
  [[nodiscard]] static constexpr Index padded(Index batch) { return (batch + lanes - 1) / lanes * lanes; }

  Convolution3x3(Index height, Index width, Index inputs, Index outputs)
      : height_(height), width_(width), inputs_(inputs), outputs_(outputs) {}

  [[nodiscard]] Index inputs() const { return inputs_; }
  [[nodiscard]] Index outputs() const { return outputs_; }
  /// 9 C_in C_out.
  [[nodiscard]] Index num_weights() const { return 9 * inputs_ * outputs_; }
  /// 16 C_in C_out.
  [[nodiscard]] Index num_transformed() const { return 16 * inputs_ * outputs_; }

  /// Whether products of so many images read more weights than values, and enough of them to make up for the
  /// synchronization of threads.
  [[nodiscard]] bool is_of_weights(Index batch) const {
    return num_tiles() * batch <= rows_per_block && inputs_ * outputs_ >= many_weights;
  }

  /// Makes the scratch large enough for so many parts of up to `batch` (padded) images each.
  void reserve(ConvolutionScratch<S>& scratch, Index batch, Index parts = 1) const;

  /// `transformed = G W G^T`, 16 blocks C_in x C_out.
  void transform_weights(const S* weights, S* transformed) const;

  /// `Z = max(A * W, 0)`, W given transformed.
  void forward_relu(Parts parts, const S* transformed, ConvolutionScratch<S>& scratch, ParallelOptions parallel) const;

  /// `dZ = [Z > 0] (dA * W + A * V)`: the derivative of `forward_relu`, whose result Z is, along dA and V. `dA` may be
  /// null: zero. W and V are given transformed.
  void forward_tangent(Parts parts, const S* transformed, const S* direction, ConvolutionScratch<S>& scratch,
                       ParallelOptions parallel) const;

  /// With `G = [Z > 0] dZ`: `gradient` of <G, A * W> by W, transformed, and `dA = (gradient by A)` unless dA is null. W
  /// is given transformed.
  void backward_relu(Parts parts, const S* transformed, S* gradient, ConvolutionScratch<S>& scratch,
                     ParallelOptions parallel) const;

  /// `target += scale * (gradient by W)` for the output channels `first ... last - 1`, from the transformed gradient
  /// that `backward_relu` left; overwrites that of these channels.
  void add_weight_gradient(S* transformed, Index first, Index last, S scale, S* target) const;

 private:
  using Channels = Eigen::Map<Eigen::Array<S, Eigen::Dynamic, 1>>;
  using ConstChannels = Eigen::Map<const Eigen::Array<S, Eigen::Dynamic, 1>>;
  using Block = Eigen::Map<Matrix<S>>;
  using ConstBlock = Eigen::Map<const Matrix<S>>;

  static constexpr auto if_positive = [](S condition, S value) { return condition > S(0) ? value : S(0); };

  // Enough rows for matrix products at full speed, few enough that the transformed tiles stay in the cache.
  static constexpr Index rows_per_block = 256;
  static constexpr Index many_weights = Index(128) * 128;

  /// Rows of transformed tiles: for each tile the images of all parts.
  struct Rows {
    Index first;       // tile
    Index last;        // the tile after the last
    Index batch;       // images of all parts
    Index before = 0;  // images of the parts before

    [[nodiscard]] Index size() const { return (last - first) * batch; }
  };

  [[nodiscard]] Block input_block(ConvolutionScratch<S>& scratch, Index k, const Rows& rows) const {
    return Block(scratch.inputs.data() + k * rows.size() * inputs_, rows.size(), inputs_);
  }
  [[nodiscard]] Block output_block(ConvolutionScratch<S>& scratch, Index k, const Rows& rows) const {
    return Block(scratch.outputs.data() + k * rows.size() * outputs_, rows.size(), outputs_);
  }
  [[nodiscard]] Block weight_block(S* values, Index k) const;
  [[nodiscard]] ConstBlock weight_block(const S* values, Index k) const;

  [[nodiscard]] Index num_tiles() const { return ((height_ + 1) / 2) * ((width_ + 1) / 2); }

  /// `body(rows)` for blocks of tiles.
  template <class Body>
  void for_blocks(Parts parts, Body body) const {
    Index batch = 0;
    for (const auto& part : parts) batch += part.batch;
    const Index at_once = std::max<Index>(1, rows_per_block / batch);
    for (Index first = 0; first < num_tiles(); first += at_once)
      body(Rows{first, std::min(num_tiles(), first + at_once), batch});
  }

  /// `action(k)` for the 16 products.
  template <class Action>
  static void for_products(ParallelOptions parallel, const Action& action) {
    parallel_for(16, action, parallel);
  }

  /// `action(part, rows)` for each part and its rows of a block.
  template <class Action>
  static void for_parts(Parts parts, const Rows& block, ParallelOptions parallel, Action action) {
    parallel_for(
        static_cast<Index>(parts.size()),
        [&](Index p) {
          Rows rows = block;
          for (const auto& before : parts.first(static_cast<std::size_t>(p))) rows.before += before.batch;
          action(parts[static_cast<std::size_t>(p)], rows);
        },
        parallel);
  }

  /// `body(c, k, y, x)` for the channels and tiles of a block: the row of the part's first image, and the upper left
  /// output of the tile.
  template <class Body>
  void for_tiles(Index channels, const Rows& rows, Body body) const {
    const Index across = (width_ + 1) / 2;
    for (Index c = 0; c < channels; ++c)
      for (Index t = rows.first; t < rows.last; ++t)
        body(c, (t - rows.first) * rows.batch + rows.before, 2 * (t / across), 2 * (t % across));
  }

  /// The pixels (y, x) ... (y + size - 1, x + size - 1) of a channel; those beyond the image are `outside`.
  template <std::size_t size, class Pointer>
  [[nodiscard]] std::array<Pointer, size * size> window(Index batch, Pointer channel, Index y, Index x,
                                                        Pointer outside) const {
    std::array<Pointer, size * size> pixels{};
    for (std::size_t i = 0; i < size; ++i)
      for (std::size_t j = 0; j < size; ++j) {
        const Index row = y + static_cast<Index>(i);
        const Index col = x + static_cast<Index>(j);
        const bool is_inside = row >= 0 && row < height_ && col >= 0 && col < width_;
        pixels[i * size + j] = is_inside ? channel + (row * width_ + col) * batch : outside;
      }
    return pixels;
  }

  /// `B^T A B` of each 4x4 window.
  void transform_inputs(Index batch, const Rows& rows, const S* A, ConvolutionScratch<S>& scratch) const;

  /// The transpose of `transform_inputs`, added to dA.
  void spread_inputs(Index batch, const Rows& rows, S* dA, ConvolutionScratch<S>& scratch) const;

  /// `finish(value, reference, destination)` for each value of `A^T M A`, the 2x2 outputs of a tile; `reference` runs
  /// through the values at the same places of another batch.
  template <class Finish>
  void write_outputs(Index batch, const Rows& rows, ConvolutionScratch<S>& scratch, S* Z, Finish finish,
                     const S* reference) const {
    const Index stride = rows.size() * outputs_;
    const Index image = batch * height_ * width_;
    S* const dropped = scratch.dropped.data() + rows.before;
    const S* const outside = scratch.outside.data();
    for_tiles(outputs_, rows, [&](Index o, Index row, Index y, Index x) {
      const auto to = window<2>(batch, Z + o * image, y, x, dropped);
      const auto beside = window<2>(batch, reference + o * image, y, x, outside);
      const S* const in = scratch.outputs.data() + o * rows.size() + row;
      for (Index n = 0; n < batch; n += lanes) {
        std::array<std::array<Packet, 4>, 2> b;
        for (std::size_t j = 0; j < 4; ++j) {
          const S* const from = in + static_cast<Index>(j) * stride + n;
          const Packet m1 = load(from + 4 * stride);
          const Packet m2 = load(from + 8 * stride);
          b[0][j] = load(from) + m1 + m2;
          b[1][j] = m1 - m2 - load(from + 12 * stride);
        }
        for (std::size_t i = 0; i < 2; ++i) {
          finish(b[i][0] + b[i][1] + b[i][2], beside[2 * i] + n, to[2 * i] + n);
          finish(b[i][1] - b[i][2] - b[i][3], beside[2 * i + 1] + n, to[2 * i + 1] + n);
        }
      }
    });
  }

  /// The transpose of `write_outputs`, of `[Z > 0] dZ`.
  void spread_outputs(Index batch, const Rows& rows, const S* Z, const S* dZ, ConvolutionScratch<S>& scratch) const;

  Index height_;
  Index width_;
  Index inputs_;
  Index outputs_;
};

template <class S>
void Convolution3x3<S>::reserve(ConvolutionScratch<S>& scratch, Index batch, Index parts) const {
  const auto grow = [](Vector<S>& values, Index size) {
    if (values.size() < size) values.setZero(size);
  };
  // Smaller batches take more tiles at once, but never more rows than this.
  const Index rows = std::max(parts * batch, rows_per_block);
  grow(scratch.inputs, 16 * rows * inputs_);
  grow(scratch.outputs, 16 * rows * outputs_);
  grow(scratch.outside, batch);
  grow(scratch.dropped, parts * batch);
}

template <class S>
void Convolution3x3<S>::transform_weights(const S* weights, S* transformed) const {
  const auto half = S(0.5);
  for (Index o = 0; o < outputs_; ++o) {
    const auto in = [&](Index i, Index j) { return ConstChannels(weights + (o * 9 + 3 * i + j) * inputs_, inputs_); };
    const auto out = [&](Index i, Index j) {
      return Channels(transformed + ((4 * i + j) * outputs_ + o) * inputs_, inputs_);
    };
    for (Index j = 0; j < 3; ++j) {
      out(0, j) = in(0, j);
      out(1, j) = half * (in(0, j) + in(1, j) + in(2, j));
      out(2, j) = half * (in(0, j) - in(1, j) + in(2, j));
      out(3, j) = in(2, j);
    }
    for (Index i = 0; i < 4; ++i) {
      out(i, 3) = out(i, 2);
      out(i, 2) = half * (out(i, 0) - out(i, 1) + out(i, 3));
      out(i, 1) = half * (out(i, 0) + out(i, 1) + out(i, 3));
    }
  }
}

template <class S>
void Convolution3x3<S>::forward_relu(Parts parts, const S* transformed, ConvolutionScratch<S>& scratch,
                                     ParallelOptions parallel) const {
  const auto relu = [](Packet z, const S*, S* out) { store(out, each([](S v) { return v < S(0) ? S(0) : v; }, z)); };
  for_blocks(parts, [&](const Rows& block) {
    for_parts(parts, block, parallel,
              [&](const auto& part, const Rows& rows) { transform_inputs(part.batch, rows, part.A, scratch); });
    for_products(parallel, [&](Index k) {
      detail::matrix_product<S>(input_block(scratch, k, block), weight_block(transformed, k),
                                output_block(scratch, k, block));
    });
    for_parts(parts, block, parallel, [&](const auto& part, const Rows& rows) {
      write_outputs(part.batch, rows, scratch, part.Z, relu, part.Z);
    });
  });
}

template <class S>
void Convolution3x3<S>::forward_tangent(Parts parts, const S* transformed, const S* direction,
                                        ConvolutionScratch<S>& scratch, ParallelOptions parallel) const {
  const auto where_positive = [](Packet z, const S* value, S* out) { store(out, each(if_positive, load(value), z)); };
  const bool is_input_fixed = parts.front().dA == nullptr;
  for_blocks(parts, [&](const Rows& block) {
    for_parts(parts, block, parallel,
              [&](const auto& part, const Rows& rows) { transform_inputs(part.batch, rows, part.A, scratch); });
    for_products(parallel, [&](Index k) {
      detail::matrix_product<S>(input_block(scratch, k, block), weight_block(direction, k),
                                output_block(scratch, k, block));
    });
    if (!is_input_fixed) {
      for_parts(parts, block, parallel,
                [&](const auto& part, const Rows& rows) { transform_inputs(part.batch, rows, part.dA, scratch); });
      for_products(parallel, [&](Index k) {
        detail::add_matrix_product<S>(input_block(scratch, k, block), weight_block(transformed, k),
                                      output_block(scratch, k, block));
      });
    }
    for_parts(parts, block, parallel, [&](const auto& part, const Rows& rows) {
      write_outputs(part.batch, rows, scratch, part.dZ, where_positive, part.Z);
    });
  });
}

template <class S>
void Convolution3x3<S>::backward_relu(Parts parts, const S* transformed, S* gradient, ConvolutionScratch<S>& scratch,
                                      ParallelOptions parallel) const {
  const bool is_input_fixed = parts.front().dA == nullptr;
  for_blocks(parts, [&](const Rows& block) {
    for_parts(parts, block, parallel, [&](const auto& part, const Rows& rows) {
      transform_inputs(part.batch, rows, part.A, scratch);
      spread_outputs(part.batch, rows, part.Z, part.dZ, scratch);
    });
    for_products(parallel, [&](Index k) {
      auto in = input_block(scratch, k, block);
      const auto out = output_block(scratch, k, block);
      auto by_weights = weight_block(gradient, k);
      if (block.first == 0) by_weights.setZero();
      detail::add_product_of_transposed<S>(in, out, by_weights);
      if (!is_input_fixed) detail::product_with_transposed<S>(out, weight_block(transformed, k), in);
    });
    if (is_input_fixed) return;
    for_parts(parts, block, parallel, [&](const auto& part, const Rows& rows) {
      if (block.first == 0) Vector<S>::Map(part.dA, part.batch * height_ * width_ * inputs_).setZero();
      spread_inputs(part.batch, rows, part.dA, scratch);
    });
  });
}

template <class S>
typename Convolution3x3<S>::Block Convolution3x3<S>::weight_block(S* values, Index k) const {
  return Block(values + k * inputs_ * outputs_, inputs_, outputs_);
}

template <class S>
typename Convolution3x3<S>::ConstBlock Convolution3x3<S>::weight_block(const S* values, Index k) const {
  return ConstBlock(values + k * inputs_ * outputs_, inputs_, outputs_);
}

template <class S>
void Convolution3x3<S>::transform_inputs(Index batch, const Rows& rows, const S* A,
                                         ConvolutionScratch<S>& scratch) const {
  const Index stride = rows.size() * inputs_;
  const S* const outside = scratch.outside.data();
  for_tiles(inputs_, rows, [&](Index c, Index row, Index y, Index x) {
    const auto pixels = window<4>(batch, A + c * batch * height_ * width_, y - 1, x - 1, outside);
    S* const out = scratch.inputs.data() + c * rows.size() + row;
    for (Index n = 0; n < batch; n += lanes) {
      std::array<std::array<Packet, 4>, 4> b;
      for (std::size_t j = 0; j < 4; ++j) {
        const Packet d0 = load(pixels[j] + n);
        const Packet d1 = load(pixels[4 + j] + n);
        const Packet d2 = load(pixels[8 + j] + n);
        const Packet d3 = load(pixels[12 + j] + n);
        b[0][j] = d0 - d2;
        b[1][j] = d1 + d2;
        b[2][j] = d2 - d1;
        b[3][j] = d1 - d3;
      }
      for (std::size_t i = 0; i < 4; ++i) {
        S* const to = out + static_cast<Index>(4 * i) * stride + n;
        store(to, b[i][0] - b[i][2]);
        store(to + stride, b[i][1] + b[i][2]);
        store(to + 2 * stride, b[i][2] - b[i][1]);
        store(to + 3 * stride, b[i][1] - b[i][3]);
      }
    }
  });
}

template <class S>
void Convolution3x3<S>::spread_inputs(Index batch, const Rows& rows, S* dA, ConvolutionScratch<S>& scratch) const {
  const Index stride = rows.size() * inputs_;
  S* const dropped = scratch.dropped.data() + rows.before;
  for_tiles(inputs_, rows, [&](Index c, Index row, Index y, Index x) {
    const auto pixels = window<4>(batch, dA + c * batch * height_ * width_, y - 1, x - 1, dropped);
    const S* const in = scratch.inputs.data() + c * rows.size() + row;
    for (Index n = 0; n < batch; n += lanes) {
      std::array<std::array<Packet, 4>, 4> b;
      for (std::size_t j = 0; j < 4; ++j) {
        const S* const from = in + static_cast<Index>(j) * stride + n;
        const Packet u0 = load(from);
        const Packet u1 = load(from + 4 * stride);
        const Packet u2 = load(from + 8 * stride);
        const Packet u3 = load(from + 12 * stride);
        b[0][j] = u0;
        b[1][j] = u1 - u2 + u3;
        b[2][j] = u1 + u2 - u0;
        b[3][j] = -u3;
      }
      for (std::size_t i = 0; i < 4; ++i) {
        const auto add = [&](std::size_t j, const Packet& value) {
          S* const to = pixels[4 * i + j] + n;
          store(to, load(to) + value);
        };
        add(0, b[i][0]);
        add(1, b[i][1] - b[i][2] + b[i][3]);
        add(2, b[i][1] + b[i][2] - b[i][0]);
        add(3, -b[i][3]);
      }
    }
  });
}

template <class S>
void Convolution3x3<S>::spread_outputs(Index batch, const Rows& rows, const S* Z, const S* dZ,
                                       ConvolutionScratch<S>& scratch) const {
  const Index stride = rows.size() * outputs_;
  const Index image = batch * height_ * width_;
  const S* const outside = scratch.outside.data();
  for_tiles(outputs_, rows, [&](Index o, Index row, Index y, Index x) {
    const auto value = window<2>(batch, Z + o * image, y, x, outside);
    const auto from = window<2>(batch, dZ + o * image, y, x, outside);
    S* const out = scratch.outputs.data() + o * rows.size() + row;
    for (Index n = 0; n < batch; n += lanes) {
      std::array<std::array<Packet, 2>, 4> b;
      for (std::size_t j = 0; j < 2; ++j) {
        const auto masked = [&](std::size_t k) -> Packet {
          return each(if_positive, load(value[k] + n), load(from[k] + n));
        };
        const Packet g0 = masked(j);
        const Packet g1 = masked(2 + j);
        b[0][j] = g0;
        b[1][j] = g0 + g1;
        b[2][j] = g0 - g1;
        b[3][j] = -g1;
      }
      for (std::size_t i = 0; i < 4; ++i) {
        S* const to = out + static_cast<Index>(4 * i) * stride + n;
        store(to, b[i][0]);
        store(to + stride, b[i][0] + b[i][1]);
        store(to + 2 * stride, b[i][0] - b[i][1]);
        store(to + 3 * stride, -b[i][1]);
      }
    }
  });
}

template <class S>
void Convolution3x3<S>::add_weight_gradient(S* transformed, Index first, Index last, S scale, S* target) const {
  const auto half = S(0.5);
  for (Index o = first; o < last; ++o) {
    const auto in = [&](Index i, Index j) {
      return Channels(transformed + ((4 * i + j) * outputs_ + o) * inputs_, inputs_);
    };
    const auto out = [&](Index i, Index j) { return Channels(target + (o * 9 + 3 * i + j) * inputs_, inputs_); };
    for (Index i = 0; i < 4; ++i) {
      in(i, 0) += half * (in(i, 1) + in(i, 2));
      in(i, 3) += half * (in(i, 1) + in(i, 2));
      in(i, 1) = half * (in(i, 1) - in(i, 2));
    }
    const std::array<Index, 3> columns = {0, 1, 3};
    for (Index j = 0; j < 3; ++j) {
      const Index k = columns[static_cast<std::size_t>(j)];
      out(0, j) += scale * (in(0, k) + half * (in(1, k) + in(2, k)));
      out(1, j) += scale * (half * (in(1, k) - in(2, k)));
      out(2, j) += scale * (in(3, k) + half * (in(1, k) + in(2, k)));
    }
  }
}

}  // namespace richflow

#define RICHFLOW_INSTANTIATE_CONVOLUTION(prefix, S) prefix template class Convolution3x3<S>;
RICHFLOW_EXTERN(RICHFLOW_INSTANTIATE_CONVOLUTION)
