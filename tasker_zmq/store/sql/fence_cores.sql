-- fence_cores: raises the epoch of cores whose lease is over while they still own work, so that
-- none of their processes, should it only have slept, can write any more; they are about to be
-- succeeded.
UPDATE tasker_cores c SET epoch = c.epoch + 1
WHERE c.core_id <> :core_id AND c.lease_expires_at <= CAST(:now AS timestamptz)
  AND (
      ( -- first values in the order of an index: EXISTS may be planned as a hash of all
          SELECT t.task_id FROM tasker_tasks t
          WHERE t.completed_at IS NULL AND t.state IN ('pending', 'in_progress')
            AND t.processing_core_id = c.core_id
          ORDER BY (- t.priority), t.task_id LIMIT 1
      ) IS NOT NULL
      OR (
          SELECT b.batch_id FROM tasker_step_execution_batches b
          WHERE (b.reconciliation_status = 'pending'
                 OR b.state IN ('created', 'published', 'in_progress'))
            AND b.core_id = c.core_id
          ORDER BY b.batch_id LIMIT 1
      ) IS NOT NULL
  )
RETURNING c.core_id;
