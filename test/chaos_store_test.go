package test

import (
	"slices"
	"strings"

	"github.com/pgmedic/pgmedic/internal/store/s3test"
)

func storeJobs() []job {
	return []job{
		{name: "backup", args: func(*chaos) []string { return []string{"backup"} }},
		{name: "copy", args: func(c *chaos) []string { return []string{"copy", "--all", "--to", c.bucket} }},
		{name: "verify", args: func(*chaos) []string { return []string{"verify", "--all"} }},
		{name: "restore --into", args: func(c *chaos) []string { return []string{"restore", "latest", "--into", c.database + "_copy"} }},
	}
}

// storeTrials put toxiproxy between the program and a bucket.
func storeTrials() (all []trial) {
	for _, j := range storeJobs() {
		for _, f := range faults() {
			all = append(all, trial{
				family: byStore, name: label(j, f), done: f.done, want: f.want,
				run: func(c *chaos) { c.overStore(j, f) },
			})
		}
	}
	return all
}

func (c *chaos) overStore(j job, f fault) {
	s3 := s3test.Start(c.t, s3test.Options{})
	address := strings.TrimPrefix(s3.Endpoint, "http://")
	at := append(s3.Environ(), "PGMEDIC_S3_ENDPOINT="+s3.Endpoint, "PGMEDIC_S3_PATH_STYLE=true")
	c.bucket = "s3://" + s3.Bucket() + "/clinic"
	if j.name != "copy" {
		at = append(at, "PGMEDIC_STORE="+c.bucket)
	}
	before := c.prepare(at...)
	w := newWire(c.t, address)
	c.live(alive)
	r := c.over(w, j, f, func(env []string) []string { return append(env, "PGMEDIC_S3_ENDPOINT=http://127.0.0.1:"+w.port) })
	switch {
	case r.code != 0 && f.must:
		c.t.Errorf("exit code %d\n%s", r.code, r.stderr)
	case r.code == 0 && (f.may || f.must):
		c.rightStored(j, before)
		return
	default:
		c.refused(r, 12)
	}
	if now := c.listed(); !slices.Equal(now, before.backups) {
		c.t.Errorf("backups are %q instead of %q", now, before.backups)
	}
	if j.name == "copy" {
		if now := c.ok("list", "-q", "--store", c.bucket); now != "" {
			c.t.Errorf("half a copy is listed: %s", now)
		}
	}
	if r := c.run(j.args(c)...); r.code != 0 {
		c.t.Fatalf("the next run: exit code %d\n%s", r.code, r.stderr)
	}
	c.rightStored(j, before)
}

// rightStored looks whether what was said to be done is in the bucket, whole.
func (c *chaos) rightStored(j job, before state) {
	c.t.Helper()
	switch j.name {
	case "copy":
		c.ok("verify", "--all", "--store", c.bucket)
		c.ok("restore", before.backups[0], "--store", c.bucket, "--into", c.database+"_copy", "-q")
		if c.sum(c.database+"_copy") != before.backedUp {
			c.silent("the copy has other rows")
			return
		}
		c.saw("right rows")
	case "verify":
		if !strings.Contains(c.ok("list"), "verified") {
			c.silent("nothing is listed as verified")
			return
		}
		c.saw("verified")
	default:
		c.right(j, before)
	}
}
