// Classifies an image with files that `export --raw-input` wrote for MXNet, by MXNet's C interface alone.
//
//   predict_mxnet OUT IMAGE.ppm [plain] [bgr]
//
// OUT: prefix of OUT-symbol.json and OUT-0000.params. IMAGE.ppm: binary PPM (P6), already of the size that the network
// takes. plain: without oneDNN's fused operators, if "fused" is false in OUT.json. bgr: if "channel_order" is that there.
// Prints the five likeliest classes with their probabilities.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <iterator>
#include <numeric>
#include <string>
#include <vector>

// After <cstdint>, whose types it uses without including it.
#include <mxnet/c_predict_api.h>

void fail(const std::string& message) {
  std::fprintf(stderr, "predict_mxnet: %s\n", message.c_str());
  std::exit(1);
}

// Every function of MXNet's C interface returns 0, or leaves a message.
void check(int status) {
  if (status != 0) fail(MXGetLastError());
}

std::string content(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) fail("no file " + path);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

struct Image {
  uint32_t height, width;
  std::vector<float> planes;  // (3, height, width), 0..255
};

Image read_ppm(const std::string& path, bool bgr) {
  const std::string text = content(path);
  unsigned width = 0, height = 0, largest = 0;
  int begin = 0;
  const int read = std::sscanf(text.c_str(), "P6 %u %u %u%n", &width, &height, &largest, &begin);
  const size_t area = size_t(width) * height;
  if (read != 3 || largest != 255 || text.size() != begin + 1 + 3 * area) {
    fail(path + " is no binary PPM file of 8 bits without comments");
  }
  Image image{height, width, std::vector<float>(3 * area)};
  for (size_t i = 0; i < area; ++i) {
    for (size_t channel = 0; channel < 3; ++channel) {
      const size_t plane = bgr ? 2 - channel : channel;
      image.planes[plane * area + i] = static_cast<unsigned char>(text[begin + 1 + 3 * i + channel]);
    }
  }
  return image;
}

std::vector<float> logits(const std::string& graph, const std::string& params, const Image& image) {
  const int cpu = 1;
  const char* inputs[] = {"data"};
  const uint32_t dimensions[] = {0, 4}, shape[] = {1, 3, image.height, image.width};
  PredictorHandle network;
  check(MXPredCreate(graph.c_str(), params.data(), static_cast<int>(params.size()), cpu, 0, 1, inputs, dimensions,
                     shape, &network));
  check(MXPredSetInput(network, "data", image.planes.data(), static_cast<uint32_t>(image.planes.size())));
  check(MXPredForward(network));
  uint32_t *result_shape, rank;
  check(MXPredGetOutputShape(network, 0, &result_shape, &rank));
  std::vector<float> result(std::accumulate(result_shape, result_shape + rank, 1u, std::multiplies<uint32_t>()));
  check(MXPredGetOutput(network, 0, result.data(), static_cast<uint32_t>(result.size())));
  check(MXPredFree(network));
  return result;
}

int main(int argc, char** argv) {
  if (argc < 3) fail("usage: predict_mxnet OUT IMAGE.ppm [plain] [bgr]");
  const std::string prefix = argv[1];
  const std::vector<std::string> options(argv + 3, argv + argc);
  const auto given = [&](const char* name) { return std::count(options.begin(), options.end(), name) > 0; };
  // Predictors fuse unless this says otherwise.
  if (given("plain")) setenv("MXNET_SUBGRAPH_BACKEND", "NONE", 1);
  const auto values = logits(content(prefix + "-symbol.json"), content(prefix + "-0000.params"),
                             read_ppm(argv[2], given("bgr")));
  std::vector<size_t> order(values.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) { return values[a] > values[b]; });
  double sum = 0;
  for (const float value : values) sum += std::exp(double(value) - values[order[0]]);
  for (size_t i = 0; i < std::min<size_t>(5, order.size()); ++i) {
    std::printf("%zu %.6f\n", order[i], std::exp(double(values[order[i]]) - values[order[0]]) / sum);
  }
}
