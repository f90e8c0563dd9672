package postgres

import "runtime"

// Jobs returns how many connections work at once where so many were asked for. With 0
// it is one for each processor that this process may use: in a container its quota,
// not the machine's number.
func Jobs(asked int) int {
	if asked > 0 {
		return asked
	}
	return runtime.GOMAXPROCS(0)
}
