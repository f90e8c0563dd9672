package main

import (
	"strings"
	"testing"

	"github.com/pgmedic/pgmedic"
)

func TestRoom(t *testing.T) {
	plenty := room{Max: 100, Reserved: 3, Used: 11, RoleLimit: -1, DatabaseLimit: -1, Tables: 100, Slots: 64, PreparedAndBackend: 100}
	with := func(change func(*room)) room {
		r := plenty
		change(&r)
		return r
	}
	for name, tt := range map[string]struct {
		r       room
		need    int
		outcome pgmedic.Outcome
		words   string
	}{
		"plenty":           {plenty, 7, pgmedic.OutcomeOK, "up to 7; 10 of 97 are in use (max_connections)"},
		"the last":         {with(func(r *room) { r.Used = 91 }), 7, pgmedic.OutcomeOK, "90 of 97"},
		"one too few":      {with(func(r *room) { r.Used = 92 }), 7, pgmedic.OutcomeWarn, "91 of 97"},
		"a superuser":      {with(func(r *room) { r.Used, r.Superuser = 92, true }), 7, pgmedic.OutcomeOK, "91 of 100"},
		"the role's":       {with(func(r *room) { r.RoleLimit, r.RoleUsed = 5, 1 }), 7, pgmedic.OutcomeWarn, "0 of 5 are in use (the role's"},
		"the database's":   {with(func(r *room) { r.DatabaseLimit, r.DatabaseUsed = 9, 4 }), 7, pgmedic.OutcomeWarn, "3 of 9 are in use (the database's"},
		"a superuser's no": {with(func(r *room) { r.RoleLimit, r.DatabaseLimit, r.Superuser = 1, 1, true }), 7, pgmedic.OutcomeOK, "max_connections"},
	} {
		c := tt.r.connections(tt.need)
		if c.Outcome != tt.outcome || !strings.Contains(c.Detail, tt.words) || (c.Hint == "") != (c.Outcome == pgmedic.OutcomeOK) {
			t.Errorf("%s: %+v", name, c)
		}
	}
	if c := plenty.locks(); c.Outcome != pgmedic.OutcomeOK || !strings.Contains(c.Detail, "100 tables; up to 1,600") {
		t.Errorf("locks: %+v", c)
	}
	if c := with(func(r *room) { r.Tables = 1601 }).locks(); c.Outcome != pgmedic.OutcomeWarn || !strings.Contains(c.Hint, "65 and restart") {
		t.Errorf("locks of many tables: %+v", c)
	}
}
