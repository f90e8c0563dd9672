package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/schedule"
)

// scheduleKubernetesCommand prints the plan as CronJobs.
type scheduleKubernetesCommand struct {
	planner
	options schedule.KubernetesOptions
}

func scheduleKubernetesCLI(e *env) *cobra.Command {
	var o schedule.KubernetesOptions
	cmd := &cobra.Command{
		Use:   "kubernetes",
		Short: "Print the schedules as CronJobs of Kubernetes",
		Long: `Prints one CronJob for each schedule, and with wal.stream a Deployment with one pod
that runs pgmedic wal stream, for which wal.slot must be set. Pods read pgmedic.yaml
from a Secret, and the environment from the Secret of the same name with -env, if that
exists. They keep nothing: stores have to be elsewhere, and a report without output is
printed into the log. A configuration whose stores are folders is refused.`,
		Example: `  pgmedic schedule kubernetes --image registry.example/pgmedic:1.2.3 --namespace clinic | kubectl apply -f -`,
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			j, err := e.load(cmd)
			if err != nil {
				return err
			}
			p, err := newPlanner(j, "UTC") // the default plan, where the machine is not part of it
			if err != nil {
				return err
			}
			command := &scheduleKubernetesCommand{planner: p, options: o}
			return command.run(cmd.Context())
		},
	}
	cmd.Flags().StringVar(&o.Image, "image", "", "container image that has pgmedic and PostgreSQL's programs")
	cmd.Flags().StringVar(&o.Namespace, "namespace", "", "namespace to write into the manifests (default: none)")
	cmd.Flags().StringVar(&o.Secret, "secret", "pgmedic", "Secret that has pgmedic.yaml")
	return cmd
}

func (cmd *scheduleKubernetesCommand) run(context.Context) error {
	if cmd.options.Image == "" {
		return pgmedic.Errorf(pgmedic.KindUsage, "write --image REGISTRY/NAME:TAG", "--image is missing")
	}
	if err := cmd.checkCredentials("Kubernetes"); err != nil {
		return err
	}
	if err := cmd.checkStreamSlot(); err != nil {
		return err
	}
	places := []string{cmd.cfg.Backup.Place().Dir}
	for _, c := range cmd.cfg.Copies {
		places = append(places, c.Place().Dir)
	}
	for _, dir := range places {
		if dir != "" {
			return pgmedic.Errorf(pgmedic.KindUsage, "set backup.store, and the stores of copies, to a bucket", "backups go to the folder %s, which ends with the pod", dir)
		}
	}
	cmd.options.Now, cmd.options.ConfigFile, cmd.options.Stream = cmd.now(), cmd.cfg.File != "", cmd.cfg.WAL.Stream
	text, notes, err := schedule.CronJobs(cmd.plan, cmd.options)
	if err != nil {
		return err
	}
	if cmd.global.json {
		return cmd.printJSON(map[string]any{"manifests": text, "notes": orEmpty(notes)})
	}
	cmd.printf("%s", text)
	cmd.tellNotes(notes)
	cmd.tellDefault()
	return nil
}
