// What MXNet asks a library for after every call: the messages of calls that failed, in place of lib_api.cc's functions.
//
// Those keep every message for good, so that each later failure tells all earlier ones, too; and MXNet reads them after
// calls that succeed as well, by copies that nobody frees: after one failure every call of an operator cost memory.
#undef _msgSize
#undef _msgGet

#include <atomic>

#include "mxnet/lib_api.h"

namespace {

std::atomic<int> told{0};  // messages before this one were read

}  // namespace

extern "C" {

MX_INT_RET _msgSize() { return mxnet::ext::MXerrorMsgs::get()->size() - told; }

MX_VOID_RET _msgGet(int index, const char** message) {
  *message = mxnet::ext::MXerrorMsgs::get()->get(told + index)->c_str();
  // MXNet reads all of them in their order, and nothing is added meanwhile by the call that failed.
  if (told + index + 1 == mxnet::ext::MXerrorMsgs::get()->size()) told += index + 1;
}

}
