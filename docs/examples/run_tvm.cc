// Runs a library that TVM compiled of an ONNX export, with TVM's runtime alone: run_tvm LIBRARY IMAGES LOGITS N C H W.
// IMAGES and LOGITS are files of float32. docs/phones.md builds it for aarch64 and runs it under qemu-user.

#include <dlfcn.h>
#include <tvm/ffi/container/tensor.h>
#include <tvm/ffi/extra/module.h>

#include <cstdio>
#include <fstream>
#include <stdexcept>
#include <string>
#include <vector>

namespace ffi = tvm::ffi;

struct Memory {
  void AllocData(DLTensor* tensor) { tensor->data = aligned_alloc(64, (ffi::GetDataSize(*tensor) + 63) / 64 * 64); }
  void FreeData(DLTensor* tensor) { free(tensor->data); }
};

int main(int count, char** words) try {
  if (count < 8) throw std::runtime_error("run_tvm LIBRARY IMAGES LOGITS N C H W");
  std::vector<int64_t> shape;
  for (int i = 4; i < 8; ++i) shape.push_back(std::stol(words[i]));
  const DLDevice cpu{kDLCPU, 0};
  ffi::Tensor images = ffi::Tensor::FromNDAlloc(Memory(), ffi::Shape(shape), DLDataType{kDLFloat, 32, 1}, cpu);
  std::ifstream(words[2], std::ios::binary)
      .read(static_cast<char*>(images.data_ptr()), 4 * images.numel());

  if (!dlopen("libtvm_runtime.so", RTLD_NOW | RTLD_GLOBAL)) throw std::runtime_error(dlerror());
  ffi::Module library = ffi::Module::LoadFromFile(words[1]);
  ffi::Module machine = library->GetFunction("vm_load_executable").value()().cast<ffi::Module>();
  const int pooled = 2;
  machine->GetFunction("vm_initialization").value()(static_cast<int>(kDLCPU), 0, pooled);
  ffi::Tensor logits = machine->GetFunction("main").value()(images).cast<ffi::Tensor>();
  std::ofstream(words[3], std::ios::binary)
      .write(static_cast<const char*>(logits.data_ptr()), 4 * logits.numel());
  return 0;
} catch (const std::exception& error) {
  std::fprintf(stderr, "error: %s\n", error.what());
  return 1;
}
