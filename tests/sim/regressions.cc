#include "tests/sim/regressions.h"

namespace syncnorm::sim {

const std::vector<Regression>& Regressions() {
  static const auto* const regressions = new std::vector<Regression>{
      {4, 0,
       "a worker that had said Finish took an epoch of before for the one in which all do again"},
      {13, 0, "with a member skipped, hosts were folded in another order than without it"},
      {30, 0, "a restart asked for answers on behalf of a member that had finished: the run ended"},
      {420, 0, "the same, in a calm group"},
      {58, 0, "Joined told an epoch's number with other members than it had"},
      {413, 0, "two halves of a run had an epoch of one number with other members"},
      {408, 0, "a stream that broke while Joined was on its way: joining again ended the epoch"},
      {357, 0, "the same, after the coordinator had been drained"},
      {766, 0, "a failure named no group"},
      {5058, 0, "a worker that had not heard of its run joined first: the others were fenced"},
      {178306779054334, 0,
       "where only members that had finished resumed, others began the run's rounds again"},
      {152605176891629, 0,
       "a run that was begun again by one that starts anew kept the epoch that a lost member had "
       "results of"},
      {34747457473267, 0,
       "one that came back twice after a restart was taken to have finished once more"},
      {93967326838920, 0,
       "a Finish while the Resume was on its way was taken for answered by the Joined"},
      {159905389086585, 0,
       "a superseded process and one that starts anew began a run again that others had gone on "
       "with"},
      {191107727493840, 0,
       "a joining worker whose stream broke as the group formed came back too late"},
      {262676997342378, 0,
       "the judge did not find which members were in a result, as many were lost meanwhile"},
      {125185098319469, 0,
       "the judge took an old Joined, read late, for that of the rank's holder"},
      {186393268846932, 0,
       "a worker whose Join the network held back for longer than the hello timeout did not try "
       "again"},
      {113201729962112, 0, "a process's second membership was taken for the first"},
  };
  return *regressions;
}

}  // namespace syncnorm::sim
