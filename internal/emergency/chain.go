package emergency

import "slices"

// Head is a session at the head of a chain of sessions that wait.
type Head struct {
	// PID is its process id; 0 stands for prepared transactions, which have none.
	PID int
	// Waiting is how many sessions wait for it, directly or for one that does.
	Waiting int
}

// Heads returns the sessions that others wait for and that wait for none themselves, from
// whom each waiting session waits for. Those with the most waiters come first. Sessions that
// wait for each other in a ring have no head: the server ends such a deadlock itself.
func Heads(waitsFor map[int][]int) []Head {
	waiters := map[int]map[int]bool{}
	for pid := range waitsFor {
		seen := map[int]bool{pid: true}
		for queue := []int{pid}; len(queue) > 0; queue = queue[1:] {
			for _, by := range waitsFor[queue[0]] {
				if seen[by] {
					continue
				}
				seen[by] = true
				queue = append(queue, by)
				if _, waits := waitsFor[by]; waits {
					continue
				}
				if waiters[by] == nil {
					waiters[by] = map[int]bool{}
				}
				waiters[by][pid] = true
			}
		}
	}
	var heads []Head
	for pid, all := range waiters {
		heads = append(heads, Head{PID: pid, Waiting: len(all)})
	}
	slices.SortFunc(heads, func(a, b Head) int {
		if a.Waiting != b.Waiting {
			return b.Waiting - a.Waiting
		}
		return a.PID - b.PID
	})
	return heads
}
