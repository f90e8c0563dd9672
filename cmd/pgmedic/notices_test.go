package main

import (
	"bytes"
	"errors"
	"log/slog"
	"testing"
)

func TestNotices(t *testing.T) {
	for _, tt := range []struct {
		name string
		log  func(*slog.Logger)
		want string
	}{
		{"a warning", func(l *slog.Logger) { l.Warn("one row is odd") }, "warning: one row is odd\n"},
		{
			"with an error, a hint and more", func(l *slog.Logger) {
				l.With("store", "cloud").Warn("a copy failed", "error", errors.New("no route\nto host"), "backup", "x", "hint", "try again")
			}, "warning: a copy failed: no route; to host (store: cloud, backup: x)\nhint: try again\n",
		},
		{"an error", func(l *slog.Logger) { l.Error("lost") }, "error: lost\n"},
		{"a group", func(l *slog.Logger) { l.WithGroup("a").Warn("m", slog.Group("b", "c", 1)) }, "warning: m (a.b.c: 1)\n"},
		{"what drives a terminal", func(l *slog.Logger) { l.Warn("m", "name", "x\x1b[31m\x07\ny") }, ""},
		{"info is below", func(l *slog.Logger) { l.Info("step done") }, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var b bytes.Buffer
			tt.log(slog.New(newNotices(&b, slog.LevelWarn, paint{})))
			if tt.name == "what drives a terminal" {
				if bytes.ContainsAny(b.Bytes(), "\x1b\x07") || bytes.Count(b.Bytes(), []byte("\n")) != 1 {
					t.Errorf("%q", b.String())
				}
				return
			}
			if b.String() != tt.want {
				t.Errorf("%q\nwant %q", b.String(), tt.want)
			}
		})
	}
}
