//go:build !failpoint

package failpoint

import "context"

// Hit is a named place. In this build it does nothing.
func Hit(context.Context, string) {}
