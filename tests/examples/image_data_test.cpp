#include "image_data.hpp"

#include <cstdint>

#include "support/catch.hpp"

using namespace richflow;
using namespace richflow::examples;
using namespace test_support;

namespace {

LabelledImages two_images() {
  LabelledImages images;
  images.num_images = 2;
  images.height = 2;
  images.width = 3;
  for (std::uint8_t p = 0; p < 12; ++p) images.pixels.push_back(static_cast<std::uint8_t>(20 * p + 35));
  images.labels = {7, 0};
  return images;
}

}  // namespace

TEST_CASE("images become columns of pixels in [0, 1], row by row") {
  const auto data = image_dataset(two_images());
  CHECK(data.num_samples() == 2);
  CHECK(data.num_inputs() == 6);
  CHECK(data.num_classes() == 10);
  CHECK(data.labels() == Vector<int>{{7, 0}});
  CHECK(data.columns()(0, 0) == 35.0F / 255.0F);
  CHECK(data.columns()(1, 1) == 175.0F / 255.0F);
  CHECK(data.columns()(5, 1) == 1.0F);
}

TEST_CASE("padded images are centred in zeros") {
  const auto data = image_dataset(two_images(), 5);
  CHECK(data.num_inputs() == 25);
  // rows 1 and 2, columns 1 to 3
  CHECK(data.columns()(6, 0) == 35.0F / 255.0F);
  CHECK(data.columns()(13, 1) == 1.0F);
  CHECK((data.columns().array() > 0.0F).count() == 12);
  CHECK_THROWS_MATCHES(image_dataset(two_images(), 2), ArgumentError, message_contains("got 2"));
}
