package sftpstore

import "time"

// AskEvery has connections asked for a sign of life at other times.
func (o *Options) AskEvery(every, within time.Duration) { o.askEvery, o.answerWithin = every, within }

// Clock has the time between two readings of the login told by now.
func (o *Options) Clock(now func() time.Time) { o.now = now }
