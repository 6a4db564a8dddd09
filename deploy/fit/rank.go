package fit

import "slices"

// verdicts are in their order.
var verdicts = []Verdict{Fits, Needs, Unfit, Unknown}

// Rank sorts judgements of one package for several targets, the best first: by
// the verdict; of those that fit, targets of a family that the package was made
// for, then those whose processor runs the guest itself, then those where less
// differs from what the descriptor says; of the others, those with fewer
// reasons. Targets that are alike stay in their order.
func Rank(all []*Judgement) {
	rank := func(j *Judgement) []int {
		r := []int{slices.Index(verdicts, j.Verdict())}
		if j.Capabilities == nil {
			return append(r, 0, 0, 0, 0)
		}
		return append(r, len(j.Reasons), no(j.MadeFor), no(j.Capabilities.Acceleration.Reason == ""), j.Differences())
	}
	slices.SortStableFunc(all, func(a, b *Judgement) int { return slices.Compare(rank(a), rank(b)) })
}

// no is 1 for what is not so.
func no(yes bool) int {
	if yes {
		return 0
	}
	return 1
}

// Best is the best verdict of several, Unknown for none.
func Best(all []*Judgement) Verdict {
	best := len(verdicts) - 1
	for _, j := range all {
		best = min(best, slices.Index(verdicts, j.Verdict()))
	}
	return verdicts[best]
}
