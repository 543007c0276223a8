package main

import (
	_ "k8s.io/client-go/tools/cache"
	_ "k8s.io/metrics/pkg/client/clientset/versioned"
)

func typed(arguments []string) error { return nil }
