package gcs

import "time"

// Clock has the time between two readings of credentials told by now.
func (o *Options) Clock(now func() time.Time) { o.now = now }
