#include "server/aggregator.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_join.h"

namespace syncnorm::server {
namespace {

constexpr int64_t kChannels = 37;

// Values of very different sizes, so that every other order of addition shows.
Moments Random(MomentKind kind, uint32_t rank, uint64_t count) {
  std::mt19937_64 random(1000 + rank);
  std::uniform_real_distribution<double> exponent(-8, 8);
  std::uniform_real_distribution<double> value(-1, 1);
  Moments moments = kind == MomentKind::kMeanM2 ? Moments::MeanM2(kChannels, Precision::kF64)
                                                : Moments::Sums(2, kChannels, Precision::kF64);
  for (double& v : moments.values) v = value(random) * std::pow(10, exponent(random));
  if (kind == MomentKind::kMeanM2) {
    for (double& v : moments.row(1)) v = std::abs(v);
  }
  moments.count = count;
  if (count == 0) std::fill(moments.values.begin(), moments.values.end(), 0.0);
  return moments;
}

Moments FoldInOrder(const FoldOrder& order, const std::vector<Moments>& members,
                    const std::vector<uint32_t>& arrival) {
  Aggregator aggregator(order);
  for (const uint32_t rank : arrival) {
    EXPECT_FALSE(aggregator.complete());
    Moments moments = members[rank];
    aggregator.Add(rank, &moments);
  }
  EXPECT_TRUE(aggregator.complete());
  Moments total = aggregator.Take();
  EXPECT_EQ(aggregator.bytes(), 0u);
  return total;
}

std::vector<Moments> Members(MomentKind kind, uint32_t n) {
  std::vector<Moments> members;
  for (uint32_t rank = 0; rank < n; ++rank) members.push_back(Random(kind, rank, 3 + 5 * rank));
  return members;
}

TEST(FoldOrderTest, HostsComeInTheOrderOfTheirLowestRanks) {
  const FoldOrder order({"b", "a", "b", "c", "a"});
  EXPECT_EQ(order.members(), 5u);
  EXPECT_EQ(order.hosts(), 3u);
  EXPECT_EQ(order.place(0).host, 0u);
  EXPECT_EQ(order.place(1).host, 1u);
  EXPECT_EQ(order.place(2).host, 0u);
  EXPECT_EQ(order.place(2).index, 1u);
  EXPECT_EQ(order.place(3).host, 2u);
  EXPECT_EQ(order.place(4).host, 1u);
  EXPECT_EQ(order.place(4).index, 1u);
  EXPECT_EQ(order.members_of(0), 2u);
  EXPECT_EQ(order.members_of(2), 1u);
}

class EveryOrder : public testing::TestWithParam<std::vector<std::string>> {};

TEST_P(EveryOrder, OfFourWorkersGivesTheSameBytes) {
  for (const MomentKind kind : {MomentKind::kMeanM2, MomentKind::kSums}) {
    const FoldOrder order(GetParam());
    const std::vector<Moments> members = Members(kind, 4);
    std::vector<uint32_t> arrival = {0, 1, 2, 3};
    const Moments expected = FoldInOrder(order, members, arrival);
    int orders = 0;
    do {
      EXPECT_EQ(FoldInOrder(order, members, arrival), expected) << absl::StrJoin(arrival, ",");
      ++orders;
    } while (std::next_permutation(arrival.begin(), arrival.end()));
    EXPECT_EQ(orders, 24);
  }
}

INSTANTIATE_TEST_SUITE_P(Hosts, EveryOrder,
                         testing::Values(std::vector<std::string>{"a", "a", "a", "a"},
                                         std::vector<std::string>{"a", "b", "c", "d"},
                                         std::vector<std::string>{"a", "b", "a", "b"},
                                         std::vector<std::string>{"b", "b", "a", "a"},
                                         std::vector<std::string>{"", "x", "x", ""}));

TEST(AggregatorTest, FoldsTheMembersOfAHostFirst) {
  const FoldOrder order({"a", "b", "a", "b"});
  const std::vector<Moments> members = Members(MomentKind::kSums, 4);
  Moments a = members[0];
  ASSERT_TRUE(Fold(members[2], &a).ok());
  Moments b = members[1];
  ASSERT_TRUE(Fold(members[3], &b).ok());
  ASSERT_TRUE(Fold(b, &a).ok());
  EXPECT_EQ(FoldInOrder(order, members, {3, 2, 1, 0}), a);

  Moments flat = members[0];
  for (const int rank : {1, 2, 3}) ASSERT_TRUE(Fold(members[rank], &flat).ok());
  EXPECT_NE(FoldInOrder(order, members, {0, 1, 2, 3}), flat) << "the values are too tame";
}

TEST(AggregatorTest, ARelayThatFoldsAHostGivesTheSameBytes) {
  const std::vector<std::string> hosts = {"a", "b", "a", "c", "b", "a"};
  for (const MomentKind kind : {MomentKind::kMeanM2, MomentKind::kSums}) {
    const std::vector<Moments> members = Members(kind, 6);
    const Moments direct = FoldInOrder(FoldOrder(hosts), members, {5, 0, 3, 1, 4, 2});

    std::vector<Moments> partials;
    for (const std::vector<uint32_t>& ranks :
         {std::vector<uint32_t>{0, 2, 5}, std::vector<uint32_t>{1, 4}, std::vector<uint32_t>{3}}) {
      const FoldOrder local(std::vector<std::string>(ranks.size(), "same"));
      Aggregator aggregator(local);
      for (uint32_t i = 0; i < ranks.size(); ++i) {
        Moments moments = members[ranks[i]];
        aggregator.Add(i, &moments);
      }
      partials.push_back(aggregator.Take());
    }
    EXPECT_EQ(FoldInOrder(FoldOrder({"a", "b", "c"}), partials, {2, 1, 0}), direct);
  }
}

TEST(AggregatorTest, AWorkerAloneGetsItsOwnBytesBack) {
  Moments moments = Moments::Sums(1, 2, Precision::kF64);
  moments.values = {-0.0, 3};
  const FoldOrder order({"a"});
  const Moments total = FoldInOrder(order, {moments}, {0});
  EXPECT_TRUE(std::signbit(total.values[0]));
  EXPECT_EQ(total, moments);
}

TEST(AggregatorTest, AnEmptySliceChangesNothing) {
  const FoldOrder order({"a", "b", "a"});
  const Moments full = Random(MomentKind::kMeanM2, 7, 9);
  const Moments empty = Random(MomentKind::kMeanM2, 0, 0);
  EXPECT_EQ(FoldInOrder(order, {empty, full, empty}, {2, 1, 0}), full);
}

// Skipping is tried before, between and after the others, for all sets of those that take part.
TEST(AggregatorTest, OfAnyMembersTheFoldIsThatOfAGroupOfThemAlone) {
  constexpr uint32_t kMembers = 5;
  const std::vector<Moments> members = Members(MomentKind::kSums, kMembers);
  for (const std::vector<std::string>& hosts :
       {std::vector<std::string>{"a", "b", "c", "a", "b"},
        std::vector<std::string>{"a", "b", "b", "c", "a"},
        std::vector<std::string>{"a", "b", "c", "d", "a"},
        std::vector<std::string>{"a", "a", "a", "a", "a"}}) {
    const FoldOrder order(hosts);
    for (uint32_t part = 1; part < 1u << kMembers; ++part) {
      std::vector<std::string> their_hosts;
      std::vector<Moments> theirs;
      std::vector<uint32_t> in_order;
      for (uint32_t rank = 0; rank < kMembers; ++rank) {
        if ((part >> rank & 1) == 0) continue;
        in_order.push_back(static_cast<uint32_t>(theirs.size()));
        their_hosts.push_back(hosts[rank]);
        theirs.push_back(members[rank]);
      }
      const Moments alone = FoldInOrder(FoldOrder(their_hosts), theirs, in_order);
      std::vector<uint32_t> arrival(kMembers);
      std::iota(arrival.begin(), arrival.end(), 0);
      do {
        Aggregator aggregator(order);
        for (const uint32_t rank : arrival) {
          Moments moments = members[rank];
          if ((part >> rank & 1) != 0) {
            aggregator.Add(rank, &moments);
          } else {
            aggregator.Skip(rank);
          }
        }
        ASSERT_TRUE(aggregator.complete());
        ASSERT_EQ(aggregator.Take(), alone)
            << "members " << part << " of " << absl::StrJoin(hosts, ",") << ", came as "
            << absl::StrJoin(arrival, ",");
        ASSERT_EQ(aggregator.bytes(), 0u);
      } while (std::next_permutation(arrival.begin(), arrival.end()));
    }
  }
}

TEST(AggregatorTest, OfNobodyThereAreNoValues) {
  const FoldOrder order({"a", "b", "a"});
  Aggregator aggregator(order);
  for (const uint32_t rank : {2, 0, 1}) aggregator.Skip(rank);
  EXPECT_TRUE(aggregator.complete());
  EXPECT_TRUE(aggregator.Take().values.empty());
}

TEST(AggregatorTest, SkippingFreesWhatWaitedForTheSkipped) {
  const FoldOrder order({"a", "a", "b"});
  const std::vector<Moments> members = Members(MomentKind::kSums, 3);
  const uint64_t one = 2 * kChannels * sizeof(double);
  Aggregator aggregator(order);
  Moments early = members[2];
  aggregator.Add(2, &early);
  early = members[1];
  aggregator.Add(1, &early);
  EXPECT_EQ(aggregator.bytes(), 2 * one);
  aggregator.Skip(0);
  EXPECT_EQ(aggregator.bytes(), one);
  aggregator.Clear();
  EXPECT_EQ(aggregator.bytes(), 0u);
}

TEST(AggregatorTest, ArrivalInOrderHoldsOnePartialAHost) {
  const FoldOrder order({"a", "a", "a", "b", "b", "b"});
  const std::vector<Moments> members = Members(MomentKind::kSums, 6);
  const uint64_t one = 2 * kChannels * sizeof(double);
  Aggregator aggregator(order);
  const auto add = [&](uint32_t rank) {
    Moments moments = members[rank];
    aggregator.Add(rank, &moments);
    return aggregator.bytes();
  };
  EXPECT_EQ(add(0), one);
  EXPECT_EQ(add(1), one);
  EXPECT_EQ(add(3), 2 * one);
  EXPECT_EQ(add(5), 3 * one);  // early: waits for rank 4
  EXPECT_EQ(add(4), 2 * one);
  EXPECT_EQ(add(2), one);
}

}  // namespace
}  // namespace syncnorm::server
