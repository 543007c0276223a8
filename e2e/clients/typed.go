package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
	v1 "k8s.io/metrics/pkg/apis/metrics/v1"
	"k8s.io/metrics/pkg/apis/metrics/v1beta1"
	"k8s.io/metrics/pkg/client/clientset/versioned"
)

// typed asks by way of client-go's generated clients, in the manner of the first
// argument, and prints JSON: one line an answer or event.
func typed(arguments []string) error {
	config, err := clientcmd.BuildConfigFromFlags("", os.Getenv("KUBECONFIG"))
	if err != nil {
		return err
	}
	switch {
	case len(arguments) == 1 && arguments[0] == "read":
		return read(config)
	case len(arguments) == 2 && arguments[0] == "follow":
		return follow(config, arguments[1])
	default:
		return fmt.Errorf("usage: client-go read | client-go follow pods|nodes")
	}
}

func say(value any) error {
	return json.NewEncoder(os.Stdout).Encode(value)
}

// read lists and gets nodes and pods in each version and encoding.
func read(config *rest.Config) error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	for _, contentType := range []string{"application/json", "application/vnd.kubernetes.protobuf"} {
		config := rest.CopyConfig(config)
		config.ContentType = contentType
		client, err := versioned.NewForConfig(config)
		if err != nil {
			return err
		}
		old, err := readOld(ctx, client)
		if err != nil {
			return fmt.Errorf("v1beta1 as %s: %w", contentType, err)
		}
		current, err := readCurrent(ctx, client)
		if err != nil {
			return fmt.Errorf("v1 as %s: %w", contentType, err)
		}
		for version, found := range map[string]any{"v1beta1": old, "v1": current} {
			if err := say(map[string]any{"version": version, "contentType": contentType, "found": found}); err != nil {
				return err
			}
		}
	}
	return nil
}

type foundOld struct {
	Nodes []v1beta1.NodeMetrics `json:"nodes"`
	Pods  []v1beta1.PodMetrics  `json:"pods"`
	Node  *v1beta1.NodeMetrics  `json:"node"`
	Pod   *v1beta1.PodMetrics   `json:"pod"`
}

func readOld(ctx context.Context, client versioned.Interface) (*foundOld, error) {
	api := client.MetricsV1beta1()
	nodes, err := api.NodeMetricses().List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	pods, err := api.PodMetricses("").List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	if len(nodes.Items) == 0 || len(pods.Items) == 0 {
		return nil, fmt.Errorf("%d nodes, %d pods", len(nodes.Items), len(pods.Items))
	}
	node, err := api.NodeMetricses().Get(ctx, nodes.Items[0].Name, metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	first := pods.Items[0]
	pod, err := api.PodMetricses(first.Namespace).Get(ctx, first.Name, metav1.GetOptions{})
	return &foundOld{nodes.Items, pods.Items, node, pod}, err
}

type foundCurrent struct {
	Nodes []v1.NodeMetrics `json:"nodes"`
	Pods  []v1.PodMetrics  `json:"pods"`
	Node  *v1.NodeMetrics  `json:"node"`
	Pod   *v1.PodMetrics   `json:"pod"`
}

func readCurrent(ctx context.Context, client versioned.Interface) (*foundCurrent, error) {
	api := client.MetricsV1()
	nodes, err := api.NodeMetricses().List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	pods, err := api.PodMetricses("").List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	if len(nodes.Items) == 0 || len(pods.Items) == 0 {
		return nil, fmt.Errorf("%d nodes, %d pods", len(nodes.Items), len(pods.Items))
	}
	node, err := api.NodeMetricses().Get(ctx, nodes.Items[0].Name, metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	first := pods.Items[0]
	pod, err := api.PodMetricses(first.Namespace).Get(ctx, first.Name, metav1.GetOptions{})
	return &foundCurrent{nodes.Items, pods.Items, node, pod}, err
}

// follow runs an informer for as long as the program does, and prints what it
// tells its handlers, and each time that it is in step with the server.
func follow(config *rest.Config, resource string) error {
	client, err := versioned.NewForConfig(config)
	if err != nil {
		return err
	}
	var object runtime.Object = &v1.NodeMetrics{}
	if resource == "pods" {
		object = &v1.PodMetrics{}
	}
	source := cache.NewListWatchFromClient(client.MetricsV1().RESTClient(), resource, metav1.NamespaceAll, fields.Everything())
	informer := cache.NewSharedIndexInformer(source, object, 0, cache.Indexers{})
	if err := informer.SetWatchErrorHandler(func(_ *cache.Reflector, err error) {
		_ = say(map[string]string{"event": "error", "message": err.Error()})
	}); err != nil {
		return err
	}
	tell := func(event string, object any) {
		key, err := cache.DeletionHandlingMetaNamespaceKeyFunc(object)
		if err != nil {
			key = err.Error()
		}
		_ = say(map[string]any{"event": event, "key": key, "object": object})
	}
	_, err = informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(object any) { tell("added", object) },
		UpdateFunc: func(_, object any) { tell("modified", object) },
		DeleteFunc: func(object any) { tell("deleted", object) },
	})
	if err != nil {
		return err
	}
	go func() {
		if cache.WaitForCacheSync(context.Background().Done(), informer.HasSynced) {
			_ = say(map[string]any{"event": "synced", "keys": len(informer.GetStore().ListKeys())})
		}
	}()
	informer.Run(context.Background().Done())
	return nil
}
