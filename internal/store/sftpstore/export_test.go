package sftpstore

import "time"

// AskEvery has connections asked for a sign of life at other times.
func (o *Options) AskEvery(every, within time.Duration) { o.askEvery, o.answerWithin = every, within }
