package schedule_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/schedule"
)

// cronJob is what the tests read of a manifest. Unknown keys are refused, so that one that
// is misspelt or at the wrong depth is found; the names are those of batch/v1 and core/v1.
type cronJob struct {
	APIVersion string `yaml:"apiVersion"`
	Kind       string `yaml:"kind"`
	Metadata   struct {
		Name, Namespace string
		Labels          map[string]string
	} `yaml:"metadata"`
	Spec struct {
		Schedule                   string `yaml:"schedule"`
		TimeZone                   string `yaml:"timeZone"`
		ConcurrencyPolicy          string `yaml:"concurrencyPolicy"`
		StartingDeadlineSeconds    int    `yaml:"startingDeadlineSeconds"`
		SuccessfulJobsHistoryLimit int    `yaml:"successfulJobsHistoryLimit"`
		FailedJobsHistoryLimit     int    `yaml:"failedJobsHistoryLimit"`
		JobTemplate                struct {
			Spec struct {
				BackoffLimit          *int `yaml:"backoffLimit"`
				ActiveDeadlineSeconds int  `yaml:"activeDeadlineSeconds"`
				Template              podTemplate
			} `yaml:"spec"`
		} `yaml:"jobTemplate"`
	} `yaml:"spec"`
}

// podTemplate is what both kinds have.
type podTemplate struct {
	Metadata struct{ Labels map[string]string } `yaml:"metadata"`
	Spec     struct {
		RestartPolicy                 string         `yaml:"restartPolicy"`
		AutomountServiceAccountToken  *bool          `yaml:"automountServiceAccountToken"`
		TerminationGracePeriodSeconds int            `yaml:"terminationGracePeriodSeconds"`
		SecurityContext               map[string]any `yaml:"securityContext"`
		Containers                    []struct {
			Name, Image     string
			Command, Args   []string
			Env             []map[string]any
			SecurityContext map[string]any   `yaml:"securityContext"`
			VolumeMounts    []map[string]any `yaml:"volumeMounts"`
			EnvFrom         []map[string]any `yaml:"envFrom"`
		} `yaml:"containers"`
		Volumes []map[string]any `yaml:"volumes"`
	} `yaml:"spec"`
}

// deployment is what the tests read of the stream's, whose names are those of apps/v1.
type deployment struct {
	APIVersion string `yaml:"apiVersion"`
	Kind       string `yaml:"kind"`
	Metadata   struct {
		Name, Namespace string
		Labels          map[string]string
	} `yaml:"metadata"`
	Spec struct {
		Replicas int
		Strategy struct{ Type string }
		Selector struct {
			MatchLabels map[string]string `yaml:"matchLabels"`
		}
		Template podTemplate
	} `yaml:"spec"`
}

func TestCronJobs(t *testing.T) {
	plan := []schedule.Entry{
		entry(t, schedule.JobBackup, func(e *schedule.Entry) {
			e.Within, e.Databases, e.Args = 6*time.Hour, []string{"- x: *", "no"}, args(`label:q={"#: 'x'`)
		}),
		entry(t, schedule.JobReport, func(e *schedule.Entry) {
			e.Name, e.Times, e.MaxDuration = "report", parse(t, "every 6h", "Europe/Berlin"), time.Hour
		}),
		entry(t, schedule.JobCheck, func(e *schedule.Entry) { e.Name, e.Times = "check", parse(t, "5 4 * * 7", "Europe/Berlin") }),
	}
	text, _, err := schedule.CronJobs(plan, schedule.KubernetesOptions{
		Image: "registry.example/pgmedic:1.2.3", Namespace: "clinic", Secret: "pgmedic", ConfigFile: true, Now: noon(),
	})
	if err != nil {
		t.Fatal(err)
	}
	var got []cronJob
	for _, doc := range strings.Split(text, "---\n") {
		var one cronJob
		if err := yaml.UnmarshalWithOptions([]byte(doc), &one, yaml.Strict()); err != nil {
			t.Fatalf("%v\n%s", err, doc)
		}
		got = append(got, one)
	}
	wants := []struct {
		fields, zone     string
		deadline, active int
	}{{"0 2 * * *", "Etc/UTC", 6 * 3600, 0}, {"0 */6 * * *", "Etc/UTC", 300, 3600}, {"5 4 * * 0", "Europe/Berlin", 300, 0}}
	if len(got) != len(wants) {
		t.Fatalf("%d manifests", len(got))
	}
	for i, w := range wants {
		s := got[i].Spec
		pod := s.JobTemplate.Spec.Template.Spec
		if s.Schedule != w.fields || s.TimeZone != w.zone || s.StartingDeadlineSeconds != w.deadline || s.JobTemplate.Spec.ActiveDeadlineSeconds != w.active {
			t.Errorf("%+v, want %+v", s, w)
		}
		if s.ConcurrencyPolicy != "Forbid" || s.JobTemplate.Spec.BackoffLimit == nil || *s.JobTemplate.Spec.BackoffLimit != 0 || pod.RestartPolicy != "Never" ||
			pod.AutomountServiceAccountToken == nil || *pod.AutomountServiceAccountToken || got[i].Metadata.Namespace != "clinic" {
			t.Errorf("%+v", got[i])
		}
		// What the restricted level of the pod security standards asks for.
		c := pod.Containers[0]
		drops, _ := c.SecurityContext["capabilities"].(map[string]any)
		profile, _ := pod.SecurityContext["seccompProfile"].(map[string]any)
		if pod.SecurityContext["runAsNonRoot"] != true || profile["type"] != "RuntimeDefault" || c.SecurityContext["allowPrivilegeEscalation"] != false ||
			c.SecurityContext["readOnlyRootFilesystem"] != true || len(drops["drop"].([]any)) != 1 {
			t.Errorf("%v, %v", pod.SecurityContext, c.SecurityContext)
		}
		want := append([]string{"--config=/etc/pgmedic/pgmedic.yaml"}, plan[i].Command()...)
		if plan[i].Job == schedule.JobReport { // printed, for nothing is kept
			want = want[:len(want)-1]
		}
		if strings.Join(c.Args, "\x00") != strings.Join(want, "\x00") {
			t.Errorf("%q, want %q", c.Args, want)
		}
	}
}

func TestCronJobsSayWhatTheyDoOtherwise(t *testing.T) {
	o := schedule.KubernetesOptions{Image: "x", Secret: "pgmedic", Now: noon()}
	e := entry(t, schedule.JobBackup, func(e *schedule.Entry) { e.Times, e.Spread = parse(t, "30 2 * * *", "Europe/Berlin"), time.Minute })
	_, notes, err := schedule.CronJobs([]schedule.Entry{e}, o)
	if err != nil || len(notes) != 3 {
		t.Errorf("%v, %v", notes, err)
	}
	both := entry(t, schedule.JobBackup, func(e *schedule.Entry) { e.Times = parse(t, "0 3 */2 * 1", "UTC") })
	if _, _, err := schedule.CronJobs([]schedule.Entry{both}, o); pgmedic.KindOf(err) != pgmedic.KindUsage {
		t.Errorf("both days have to be right: %v", err)
	}
	e = entry(t, schedule.JobBackup, nil)
	for _, o := range []schedule.KubernetesOptions{{Secret: "x"}, {Image: "a b", Secret: "x"}, {Image: "a", Secret: "X Y"}, {Image: "a", Secret: "x", Namespace: "a\nb"}} {
		if _, _, err := schedule.CronJobs([]schedule.Entry{e}, o); pgmedic.KindOf(err) != pgmedic.KindUsage {
			t.Errorf("%+v: %v", o, err)
		}
	}
}

// TestStreamDeployment: there is one pod, and never two at a time, and it may do no more
// than those of jobs.
func TestStreamDeployment(t *testing.T) {
	plan := []schedule.Entry{entry(t, schedule.JobBackup, nil)}
	for _, file := range []bool{true, false} {
		text, _, err := schedule.CronJobs(plan, schedule.KubernetesOptions{
			Image: "registry.example/pgmedic:1.2.3", Namespace: "clinic", Secret: "pgmedic", ConfigFile: file, Now: noon(), Stream: true,
		})
		if err != nil {
			t.Fatal(err)
		}
		docs := strings.Split(text, "---\n")
		var got deployment
		if err := yaml.UnmarshalWithOptions([]byte(docs[len(docs)-1]), &got, yaml.Strict()); err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		var job cronJob
		if err := yaml.UnmarshalWithOptions([]byte(docs[0]), &job, yaml.Strict()); err != nil {
			t.Fatal(err)
		}
		pod, other := got.Spec.Template.Spec, job.Spec.JobTemplate.Spec.Template.Spec
		if got.APIVersion != "apps/v1" || got.Kind != "Deployment" || got.Metadata.Namespace != "clinic" || got.Metadata.Name != "pgmedic-wal-stream" ||
			got.Spec.Replicas != 1 || got.Spec.Strategy.Type != "Recreate" || pod.RestartPolicy != "Always" {
			t.Errorf("%+v", got)
		}
		if len(got.Spec.Selector.MatchLabels) == 0 {
			t.Error("the Deployment selects every pod")
		}
		for name, value := range got.Spec.Selector.MatchLabels {
			if got.Spec.Template.Metadata.Labels[name] != value {
				t.Errorf("its own pods do not have the label %s=%s", name, value)
			}
			if job.Spec.JobTemplate.Spec.Template.Metadata.Labels[name] == value && name == "app.kubernetes.io/instance" {
				t.Errorf("pods of jobs have the label %s=%s, too", name, value)
			}
		}
		// Long enough for what has arrived to be stored.
		if pod.TerminationGracePeriodSeconds < 120 {
			t.Errorf("it is killed after %d s", pod.TerminationGracePeriodSeconds)
		}
		args := []string{"wal", "stream", "--quiet"}
		if file {
			args = append([]string{"--config=/etc/pgmedic/pgmedic.yaml"}, args...)
		}
		if strings.Join(pod.Containers[0].Args, " ") != strings.Join(args, " ") {
			t.Errorf("%q", pod.Containers[0].Args)
		}
		for what, same := range map[string][2]any{
			"the pod":       {pod.SecurityContext, other.SecurityContext},
			"the container": {pod.Containers[0].SecurityContext, other.Containers[0].SecurityContext},
			"volumes":       {pod.Volumes, other.Volumes},
			"mounts":        {pod.Containers[0].VolumeMounts, other.Containers[0].VolumeMounts},
			"environment":   {pod.Containers[0].EnvFrom, other.Containers[0].EnvFrom},
		} {
			if fmt.Sprint(same[0]) != fmt.Sprint(same[1]) {
				t.Errorf("%s: %v, and that of jobs %v", what, same[0], same[1])
			}
		}
	}
}
