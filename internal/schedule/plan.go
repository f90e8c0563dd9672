package schedule

import "time"

// Preset returns the plan of a kind of deployment, in a zone: development, staging or
// production, or nil for any other name. The last is for a database of which losing more
// than an hour is too much.
func Preset(name string, zone *time.Location) []Entry {
	backup := Entry{Name: "nightly", Job: JobBackup, Times: at("0 2 * * *", zone), Args: []Arg{{"label", []string{"every=day"}}}}
	prune := Entry{Name: "prune", Job: JobPrune, Times: at("0 5 * * *", zone)}
	report := Entry{Name: "report", Job: JobReport, Times: at("0 6 * * *", zone)}
	switch name {
	case "development":
		return []Entry{backup, prune}
	case "staging":
		return []Entry{backup, prune, {Name: "drill", Job: JobDrill, Times: at("0 3 * * 0", zone)}, report}
	case "production":
		label := func(name, text, every string) Entry {
			return Entry{Name: name, Job: JobBackup, Times: at(text, zone), Args: []Arg{{"label", []string{"every=" + every}}}}
		}
		return []Entry{
			label("hourly", "15 * * * *", "hour"), backup, label("weekly", "30 1 * * 0", "week"), label("monthly", "30 0 1 * *", "month"),
			{Name: "drill", Job: JobDrill, Times: at("0 3 * * *", zone)},
			{Name: "verify", Job: JobVerify, Times: at("0 4 * * *", zone), Args: []Arg{{"sample", []string{"5%"}}, {"all", []string{"true"}}}},
			prune, report,
			{Name: "check", Job: JobCheck, Times: at("0 7 1 * *", zone)},
			{Name: "maintain", Job: JobMaintain, Times: at("30 4 * * 6", zone), Args: []Arg{{"window", []string{"2h"}}}},
			{Name: "cleanup", Job: JobCleanup, Times: at("30 6 * * 6", zone)},
		}
	}
	return nil
}

// Default returns the plan for a configuration that has none: a backup every night, a
// prune every day, and a report and a clean-up every week, in a zone. With notify the report
// sends what is new, worse or gone to the channels, and a digest, so that there is a message
// every week. Maintenance is not in it: it changes what is in the live database, and takes
// privileges that a role for backups lacks.
func Default(zone *time.Location, notify bool) []Entry {
	plan := []Entry{
		{Name: "nightly", Job: JobBackup, Times: at("0 2 * * *", zone), Args: []Arg{{"label", []string{"every=day"}}}},
		{Name: "prune", Job: JobPrune, Times: at("0 5 * * *", zone)},
		{Name: "report", Job: JobReport, Times: at("0 6 * * 1", zone)},
		{Name: "cleanup", Job: JobCleanup, Times: at("30 6 * * 6", zone)},
	}
	if notify {
		plan[2].Args = []Arg{{"notify", []string{"true"}}, {"digest", []string{"true"}}}
	}
	return plan
}

// at reads times that are known to be right; a test reads all of them.
func at(text string, zone *time.Location) *Times {
	t, err := ParseTimes(text, zone)
	if err != nil {
		return nil
	}
	return t
}
