package main

import (
	"slices"
	"strings"

	"github.com/pgmedic/pgmedic"
)

// checkCredentials refuses to have jobs run by what hands them no credentials of systemd,
// where the configuration refers to some: each job would fail.
func (p planner) checkCredentials(runner string) error {
	var places []string
	for _, c := range p.cfg.Credentials() {
		if !slices.Contains(places, c.Where) {
			places = append(places, c.Where)
		}
	}
	if len(places) == 0 {
		return nil
	}
	return pgmedic.Errorf(pgmedic.KindUsage,
		"use services of systemd (`pgmedic schedule install --systemd`, `pgmedic schedule systemd`), or another kind of reference: docs/configuration.md#secrets",
		"%s passes no credentials of systemd to jobs, and these settings refer to some (credential:…): %s", runner, strings.Join(places, ", "))
}
