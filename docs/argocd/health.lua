-- Health of a MetricsPipeline for Argo CD: the value of resource.customizations.health.metrics-pipeline.dev_MetricsPipeline in
-- ConfigMap argocd-cm.
local health = { status = "Progressing", message = "The operator has not reported the status yet." }

if obj.metadata.deletionTimestamp ~= nil then
  health.message = "The MetricsPipeline is being deleted."
  return health
end
if obj.status == nil or obj.status.conditions == nil then
  return health
end
if obj.status.observedGeneration ~= obj.metadata.generation then
  health.message = "The operator has not processed the latest spec yet."
  return health
end

local conditions = {}
for _, condition in ipairs(obj.status.conditions) do
  conditions[condition.type] = condition
end
local ready, stalled = conditions["Ready"], conditions["Stalled"]
if stalled ~= nil and stalled.status == "True" then
  health.status, health.message = "Degraded", stalled.message
elseif ready ~= nil then
  health.message = ready.message
  if ready.status == "True" then
    health.status = "Healthy"
  end
end
return health
