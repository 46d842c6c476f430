#include "program.h"

#include <cstdlib>
#include <string>

namespace effnets {
namespace {

constexpr std::size_t MOST_STEPS = 20000, MOST_NUMBERS = 4000000;
constexpr long MOST_CHANNELS = 1 << 20, MOST_SIDE = 1 << 12, MOST_WEIGHTS = 1L << 30;

// The numbers of one row, taken one after the other.
class Row {
 public:
  Row(const std::vector<long>& numbers, std::size_t step) : numbers_(numbers), step_(step) {}

  long next(long least, long most, const char* what) {
    if (at_ == numbers_.size()) fail(std::string("it ends before ") + what);
    const long number = numbers_[at_++];
    if (number < least || number > most) fail(std::string(what) + " is " + std::to_string(number));
    return number;
  }

  int small(long least, long most, const char* what) { return static_cast<int>(next(least, most, what)); }

  Kernel kernel() {
    Kernel k;
    for (int* side : {&k.height, &k.width, &k.stride_y, &k.stride_x, &k.step_y, &k.step_x})
      *side = small(1, MOST_SIDE, "a side of the kernel");
    for (int* side : {&k.top, &k.left, &k.bottom, &k.right}) *side = small(0, MOST_SIDE, "padding");
    return k;
  }

  // Runs that have `total` channels or blocks together, of tensors before this step.
  std::vector<Run> runs(long total, bool zeros = false) {
    std::vector<Run> found(next(0, MOST_CHANNELS, "the number of runs"));
    long sum = 0;
    for (Run& run : found) {
      run.tensor = small(zeros ? -1 : 0, static_cast<long>(step_) - 1, "a tensor");
      run.first = small(0, MOST_CHANNELS, "a channel");
      run.count = small(1, MOST_CHANNELS, "a number of channels");
      sum += run.count;
    }
    if (total >= 0 && sum != total) fail("it reads " + std::to_string(sum) + " for " + std::to_string(total));
    return found;
  }

  void end() const {
    if (at_ != numbers_.size()) fail("it has too many numbers");
  }

 private:
  [[noreturn]] void fail(const std::string& why) const {
    throw Refused("step " + std::to_string(step_) + " of the program: " + why);
  }

  const std::vector<long>& numbers_;
  const std::size_t step_;
  std::size_t at_ = 0;
};

Act act(Row& row) { return static_cast<Act>(row.next(0, LAST_ACT, "an activation")); }

std::vector<Group> groups(Row& row, int blocks) {
  std::vector<Group> found(row.next(1, blocks, "the number of groups"));
  long left = blocks;
  for (Group& group : found) {
    group.blocks = row.small(1, left, "the number of blocks");
    left -= group.blocks;
    group.runs = row.runs(-1);
    if (group.runs.empty()) row.next(1, 0, "a group without inputs");
  }
  if (left) row.next(1, 0, "the number of blocks left");
  return found;
}

std::vector<Run> sum(Row& row, int blocks) {
  return row.next(0, 1, "the sum") ? row.runs(blocks) : std::vector<Run>();
}

Step read_step(Row& row) {
  Step s;
  s.kind = static_cast<Kind>(row.next(0, static_cast<int>(Kind::output), "the kind of step"));
  s.channels = row.small(1, MOST_CHANNELS, "the number of channels");
  const int blocks = s.blocks();
  switch (s.kind) {
    case Kind::input: s.weights = row.next(0, MOST_WEIGHTS, "the place of weights"); break;
    case Kind::conv:
    case Kind::depthwise:
      s.weights = row.next(0, MOST_WEIGHTS, "the place of weights");
      s.kernel = row.kernel();
      s.act = act(row);
      s.late = act(row);
      if (s.kind == Kind::conv)
        s.groups = groups(row, blocks);
      else
        s.runs = row.runs(blocks);
      s.other = sum(row, blocks);
      break;
    case Kind::pool:
      s.how = row.small(0, static_cast<int>(Pool::global), "the kind of pooling");
      s.kernel = row.kernel();
      s.flag = row.next(0, 1, "the convention of pooling");
      s.runs = row.runs(blocks);
      break;
    case Kind::combine:
      s.how = row.small(0, static_cast<int>(Combine::scale), "the kind of combination");
      s.late = act(row);
      s.runs = row.runs(blocks);
      s.other = row.runs(blocks);
      break;
    case Kind::select:
      s.runs = row.runs(s.channels, true);
      break;
    case Kind::output:
      s.flag = row.next(0, 1, "the shape of a result");
      s.runs = row.runs(s.channels);
      break;
  }
  row.end();
  return s;
}

}  // namespace

Program read_program(const std::string& text) {
  Program program;
  std::vector<long> numbers;
  std::size_t total = 0;
  const char* at = text.c_str();
  const char* const end = at + text.size();
  while (at != end) {
    if (*at == ' ') {
      ++at;
    } else if (*at == ';') {
      ++at;
      Row row(numbers, program.size());
      program.push_back(read_step(row));
      if (program.size() > 1 && program.back().kind == Kind::input) throw Refused("the program has a second input");
      if (program.size() > MOST_STEPS) throw Refused("the program has too many steps");
      numbers.clear();
    } else {
      char* behind = nullptr;
      numbers.push_back(std::strtol(at, &behind, 10));
      if (behind == at || behind > end || ++total > MOST_NUMBERS)
        throw Refused("the program is no list of whole numbers");
      at = behind;
    }
  }
  if (!numbers.empty() || program.empty() || program.front().kind != Kind::input)
    throw Refused("the program is cut short");
  return program;
}

}  // namespace effnets
