package schedule

import (
	"fmt"
	"regexp"
	"strings"
	"time"
)

// KubernetesOptions say how CronJobs are written.
type KubernetesOptions struct {
	// Image is the container image; pgmedic is in its PATH.
	Image string
	// Namespace is empty for the one that the manifests are applied in.
	Namespace string
	// Secret names a Secret whose pgmedic.yaml is the configuration. The variables of
	// SECRET-env, if it exists, are the environment.
	Secret string
	// ConfigFile is true where there is a pgmedic.yaml, and not the environment alone.
	ConfigFile bool
	// Stream is true where a Deployment streams WAL all the time.
	Stream bool
	// Now is the moment from which on changes of the clock are looked for.
	Now time.Time
}

// skipDeadline is how late a run of missed: skip may begin, in seconds: a busy cluster is
// some seconds late, and Kubernetes refuses less than ten.
const skipDeadline = 300

// CronJobs writes a plan as manifests of Kubernetes, one CronJob for each entry, and a
// Deployment for the stream of WAL. Entries
// whose times can't be said are refused with a KindUsage error. The notes are what
// Kubernetes does otherwise than the plan says.
func CronJobs(plan []Entry, o KubernetesOptions) (manifests string, notes []Note, err error) {
	if err := CheckPlan(plan); err != nil {
		return "", nil, err
	}
	name := regexp.MustCompile(`^[a-z0-9]([a-z0-9.-]{0,250}[a-z0-9])?$`)
	switch {
	case !printable(o.Image) || strings.ContainsAny(o.Image, " \t"):
		return "", nil, usage("write REGISTRY/NAME:TAG", "no container image is named, or not in one word")
	case !name.MatchString(o.Secret) || o.Namespace != "" && !name.MatchString(o.Namespace):
		return "", nil, usage("write lower-case letters, digits and dashes", "the Secret or the namespace has no name that Kubernetes takes")
	}
	if o.Stream {
		if err := checkStream(plan); err != nil {
			return "", nil, err
		}
	}
	var all []string
	for _, e := range plan {
		sets, err := e.Times.sets()
		if err != nil {
			return "", nil, fmt.Errorf("schedule %s: %w", e.Name, err)
		}
		if sets.bothDays() {
			return "", nil, usage("write the day of the month or the weekday alone", "schedule %s: both of its days have to be right, and for Kubernetes either one suffices", e.Name)
		}
		lines, err := sets.lines(0)
		if err != nil {
			return "", nil, fmt.Errorf("schedule %s: %w", e.Name, err)
		}
		zone := sets.zone.String()
		switch zone {
		case "UTC":
			zone = "Etc/UTC"
		case localName:
			return "", nil, usage("set timezone for it", "schedule %s: its time zone has no name", e.Name)
		}
		all = append(all, cronJob(e, lines[0], zone, o))
		if e.Spread > 0 {
			notes = append(notes, Note{e.Name, "Kubernetes has nothing for spread: the job starts on time"})
		}
		for _, c := range e.Times.Changes(o.Now, o.Now.Add(lookAhead)) {
			day := c.At.In(e.Times.Zone()).Format("2006-01-02")
			switch {
			case !c.Twice && c.Runs == 1:
				notes = append(notes, Note{e.Name, fmt.Sprintf("Kubernetes leaves out %s on %s, when the clock is set forward; set timezone: UTC to keep that run", c.Read, day)})
			case c.Twice && c.Runs == 1:
				notes = append(notes, Note{e.Name, fmt.Sprintf("Kubernetes runs %s twice on %s, when the clock is set back; set timezone: UTC to run once", c.Read, day)})
			}
		}
	}
	if o.Stream {
		all = append(all, deployment(o))
	}
	return strings.Join(all, "---\n"), notes, nil
}

// podLabels writes the labels of a manifest or of its pods.
func podLabels(line func(format string, args ...any), indent, component, instance string) {
	line("%slabels:\n%s  app.kubernetes.io/name: pgmedic\n%s  app.kubernetes.io/component: %s\n%s  app.kubernetes.io/instance: %s",
		indent, indent, indent, component, indent, yamlString(instance))
}

// pod writes the specification of a pod that runs pgmedic with arguments.
func pod(line func(format string, args ...any), indent, restart string, grace int, args []string, o KubernetesOptions) {
	text := func(format string, args ...any) {
		line("%s%s", indent, strings.ReplaceAll(fmt.Sprintf(format, args...), "\n", "\n"+indent))
	}
	text("spec:\n  restartPolicy: %s\n  automountServiceAccountToken: false", restart)
	text("  terminationGracePeriodSeconds: %d", grace)
	text("  securityContext:\n    runAsNonRoot: true\n    runAsUser: 10001\n    runAsGroup: 10001\n    fsGroup: 10001\n    seccompProfile:\n      type: RuntimeDefault")
	text("  containers:\n    - name: pgmedic\n      image: %s\n      command: [pgmedic]\n      args:", yamlString(o.Image))
	for _, arg := range args {
		text("        - %s", yamlString(arg))
	}
	text("      env:\n        - name: HOME\n          value: /tmp")
	text("      envFrom:\n        - secretRef:\n            name: %s\n            optional: true", yamlString(o.Secret+"-env"))
	text("      securityContext:\n        allowPrivilegeEscalation: false\n        readOnlyRootFilesystem: true\n        capabilities:\n          drop: [ALL]")
	text("      volumeMounts:\n        - name: tmp\n          mountPath: /tmp")
	if o.ConfigFile {
		text("        - name: configuration\n          mountPath: /etc/pgmedic\n          readOnly: true")
	}
	text("  volumes:\n    - name: tmp\n      emptyDir: {}")
	if o.ConfigFile {
		text("    - name: configuration\n      secret:\n        secretName: %s\n        defaultMode: 0440", yamlString(o.Secret))
	}
}

// deployment writes the stream of WAL, of which two must never run: one pod, and the old
// one ends before the new one starts.
func deployment(o KubernetesOptions) string {
	args := streamCommand()
	if o.ConfigFile {
		args = append([]string{"--config=/etc/pgmedic/pgmedic.yaml"}, args...)
	}
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: %s", UnitPrefix+StreamName)
	if o.Namespace != "" {
		line("  namespace: %s", yamlString(o.Namespace))
	}
	podLabels(line, "  ", "wal", StreamName)
	line("spec:\n  replicas: 1\n  strategy:\n    type: Recreate\n  selector:\n    matchLabels:\n      app.kubernetes.io/name: pgmedic\n      app.kubernetes.io/instance: %s", yamlString(StreamName))
	line("  template:\n    metadata:")
	podLabels(line, "      ", "wal", StreamName)
	pod(line, "    ", "Always", stopWithin, args, o)
	return b.String()
}

func cronJob(e Entry, fields, zone string, o KubernetesOptions) string {
	deadline := int64(skipDeadline)
	if e.MissedRule() == MissedOnce {
		deadline = int64(e.WithinAge() / time.Second)
	}
	args := e.command(false)
	if o.ConfigFile {
		args = append([]string{"--config=/etc/pgmedic/pgmedic.yaml"}, args...)
	}
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	labels := func(indent string) { podLabels(line, indent, string(e.Job), e.Name) }
	line("apiVersion: batch/v1\nkind: CronJob\nmetadata:\n  name: %s", UnitPrefix+e.Name)
	if o.Namespace != "" {
		line("  namespace: %s", yamlString(o.Namespace))
	}
	labels("  ")
	line("spec:\n  schedule: %s\n  timeZone: %s\n  concurrencyPolicy: Forbid\n  startingDeadlineSeconds: %d", yamlString(fields), yamlString(zone), deadline)
	line("  successfulJobsHistoryLimit: 3\n  failedJobsHistoryLimit: 3\n  jobTemplate:\n    spec:\n      backoffLimit: 0")
	if limit := e.limit(); limit > 0 {
		line("      activeDeadlineSeconds: %d", limit/time.Second)
	}
	line("      template:\n        metadata:")
	labels("          ")
	pod(line, "        ", "Never", 60, args, o)
	return b.String()
}
